"""Whether held-out frames tell when fusing pays: bursts with right and spoilt motion, and with other people's frames.

    python -m benchmarks.track_gate DATA/faces --sets A,C,D --count 8 --seed 5

Each burst (see `track`) is fused five times: as it is registered; with each frame's shift off by 0.7, or by 1.3, HR
pixels, which nothing corrects; with 4 of its 9 frames, and with all but the reference, of another person. A verdict is
right where it says what the PSNR-Y against the truth says of the fused image and the reference frame restored alone,
or where these are within 0.05 dB.
"""

from collections import defaultdict
from dataclasses import replace
from itertools import chain

import numpy as np
import torch

from benchmarks.protocol import parsed, show_row
from benchmarks.track import SETS, faces, render, scored
from zssr_gan.video.fusion import fuse_burst
from zssr_gan.video.holdout import judge_fusion
from zssr_gan.video.registration import Motion

_EQUAL = 0.05  # dB


def spoilt(motion: Motion, pixels: float, rng: np.random.Generator) -> Motion:
    """The motion with each frame but the first moved by so many pixels of a frame, in any direction."""
    angle = rng.uniform(0, 2 * np.pi, len(motion))
    away = pixels * np.stack([np.sin(angle), np.cos(angle)], 1) * (np.arange(len(motion)) > 0)[:, None]
    return replace(motion, shift=motion.shift + torch.from_numpy(away))


def main() -> None:
    """Judge all bursts, and print a row for each condition."""
    args = parsed(__doc__, "faces", sets="A,C,D", frames=9, count=8, seed=5)
    torch.set_num_threads(1)
    originals, rng = faces(args.faces, args.count), np.random.default_rng(args.seed)
    found: dict[str, list[tuple[bool, float]]] = defaultdict(list)
    for name in args.sets.split(","):
        conditions = SETS[name]
        camera, scale, affine = conditions.degradation, conditions.scale, conditions.affine
        for place, original in enumerate(originals):
            burst = render(original, conditions, args.frames, 1000 * args.seed + place)
            other = render(originals[(place + 1) % len(originals)], conditions, args.frames, 1000 * args.seed + place)
            frames, strangers = burst.frames[:, None], other.frames[:, None]
            some = frames.clone()
            some[2::2] = strangers[2::2]
            motion = fuse_burst(frames, camera, scale, affine=affine).motion
            alone = scored(fuse_burst(frames[:1], camera, scale).image, burst.truth).psnr
            for what, shown, known in (
                ("as registered", frames, None),
                ("off by 0.7", frames, spoilt(motion, 0.7 / scale, rng)),
                ("off by 1.3", frames, spoilt(motion, 1.3 / scale, rng)),
                ("4 of 9 another person's", some, None),
                ("8 of 9 another person's", torch.cat([frames[:1], strangers[1:]]), None),
            ):
                fused = fuse_burst(shown, camera, scale, affine=affine, motion=known)
                verdict = judge_fusion(shown, camera, fused, scale, affine=affine)
                gain = scored(fused.image, burst.truth).psnr - alone
                found[what].append((verdict.fuse, gain))
                print(
                    f"{name} {place} {what}: {gain:+.2f} dB, {'fuse' if verdict.fuse else 'not'}: {verdict.reason}",
                    flush=True,
                )
    print("\n| condition | bursts | fused | right | gain if always fused | gain by the verdicts | worst let through |")
    print("| --- |" + " ---: |" * 6)
    for what, rows in [*found.items(), ("all", list(chain.from_iterable(found.values())))]:
        fuse, gains = (np.array(column) for column in zip(*rows, strict=True))
        right = f"{int(((fuse == (gains > 0)) | (np.abs(gains) < _EQUAL)).sum())} of {len(rows)}"
        worst = float(gains[fuse].min()) if fuse.any() else "-"
        show_row(what, len(rows), int(fuse.sum()), right, float(gains.mean()), float((gains * fuse).mean()), worst)


if __name__ == "__main__":
    main()
