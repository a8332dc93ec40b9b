"""What a video's compression did to frames is taken from its quantisers, or from the frames."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.video.bursts import burst, motion
from tests.video.clips import write
from zssr_gan.degradation.model import Degradation, GaussianBlur, Jpeg, Noise
from zssr_gan.errors import ImageError
from zssr_gan.imaging.colour import psnr_db
from zssr_gan.video.coding import Coding, coding_of
from zssr_gan.video.folder import still_frames, write_stills
from zssr_gan.video.frames import Frame
from zssr_gan.video.fuse_files import fuse_files, verify_fusion
from zssr_gan.video.fusion import fuse_burst
from zssr_gan.video.holdout import fuse_alone
from zssr_gan.video.io import open_video
from zssr_gan.video.pixels import luma

pytest.importorskip("av", reason="needs the extra video")

CAMERA = Degradation(blur=GaussianBlur(sigma_major=0.55, sigma_minor=0.4), noise=Noise(sigma=1 / 255))


def frame(qp: list[list[int]] | None, kind: str = "I", codec: str = "h264", **facts: object) -> Frame:
    quantisers = None if qp is None else np.array(qp, np.int16)
    return Frame(planes=(), index=0, codec=codec, picture_type=kind, qp=quantisers, **facts)  # type: ignore[arg-type]


def error(one: Frame, place: tuple[int, int] = (0, 0), size: tuple[int, int] | None = None) -> float:
    found = coding_of([one], [place], size)
    return 0.0 if found is None else float(found.error[0])


def test_a_coarser_quantiser_means_a_larger_error() -> None:
    fine, coarse, predicted = error(frame([[24]])), error(frame([[36]])), error(frame([[36]], "P"))
    assert coarse == pytest.approx(fine * 4**0.7)  # six steps double it
    assert fine < predicted < coarse
    assert 255 * error(frame([[32]])) == pytest.approx(6.9, abs=0.3)  # as measured


def test_what_is_fused_of_coded_frames_has_no_specks() -> None:
    frames, _ = burst(motion(4), CAMERA, noise=1 / 255)
    coding = Coding(torch.full((4,), 1 / 255, dtype=torch.float64), torch.tensor([False, True, True, True]))
    around = [sign * torch.nn.functional.max_pool2d(sign * frames[0], 3, 1, 1) for sign in (1, -1)]
    high, low = (edge.repeat_interleave(2, 1).repeat_interleave(2, 2) for edge in around)

    def beyond(image: torch.Tensor) -> float:
        return 255 * float(torch.maximum(image - high, low - image).max())

    assert beyond(fuse_burst(frames, CAMERA).image) > 6  # a blur is undone
    assert beyond(fuse_burst(frames, CAMERA, coding=coding).image) < 3.01


def test_the_quantisers_are_those_of_the_region() -> None:
    blocks = [[20, 40], [20, 40]]
    left, right = error(frame(blocks), (0, 0), (16, 16)), error(frame(blocks), (16, 3), (20, 16))
    assert left == error(frame([[20]]))
    assert right == error(frame([[40]]))
    assert left < error(frame(blocks), (8, 8), (16, 16)) < right
    assert error(frame(blocks, field="top"), (0, 8), (8, 16)) == left
    assert error(frame([[33]]), (400, 300), (32, 32)) == error(frame([[33]]))  # of a still: one for all


def test_lossless_codecs_and_stills_have_no_such_error_and_others_are_not_known() -> None:
    assert coding_of([frame(None, codec="ffv1"), frame(None, codec="")], [(0, 0)] * 2, None) is None
    assert coding_of([frame([[0]])], [(0, 0)], None) is None  # lossless H.264
    assert math.isnan(error(frame(None, codec="hevc")))
    assert math.isnan(error(frame([[8]], codec="mpeg4")))  # its quantisers are of another kind


def through_video(path: Path, codec: str, crf: int) -> tuple[list[Frame], torch.Tensor, torch.Tensor, torch.Tensor]:
    """Decoded frames, `F 1 24 24` of their luma, the same before, and the truth `1 48 48`."""
    before, truth = burst(motion(5), CAMERA, noise=1 / 255)
    levels = (16 + 219 * before).round().byte().numpy()
    pictures = [np.pad(one[0], ((0, 8), (0, 8)), mode="edge") for one in levels]
    options = {"crf": str(crf), f"{codec[3:]}-params": "log-level=none", "preset": "ultrafast", "bf": "2"}
    # Gray levels as RGB of the limited range's own: what counts is the luma that is stored.
    gray = [((one.astype(float) - 16) * 255 / 219).round().clip(0, 255).astype(np.uint8) for one in pictures]
    file = write(path, codec, pictures=[np.repeat(one[:, :, None], 3, 2) for one in gray], options=options)
    with open_video(file) as video:
        frames = list(video.frames)
    return frames, torch.stack([luma(one)[:, :24, :24] for one in frames]).clamp(0, 1), before, truth


def psnr(image: torch.Tensor, truth: torch.Tensor) -> float:
    return psnr_db(float((image - truth)[:, 6:-6, 6:-6].square().mean()))


@pytest.mark.parametrize(("codec", "crf"), [("libx264", 30), ("libx265", 22)])
def test_frames_of_a_video_are_fused_better_where_their_compression_is_known(
    codec: str, crf: int, tmp_path: Path
) -> None:
    frames, pixels, before, truth = through_video(tmp_path / "clip.mkv", codec, crf)
    coding = coding_of(frames, [(0, 0)] * 5, (24, 24))
    assert coding is not None
    assert bool(coding.error.isnan().all()) == (codec == "libx265")
    assert coding.predicted.tolist() == [one.picture_type != "I" for one in frames]
    blind = fuse_burst(pixels, CAMERA, affine=False)
    fused = fuse_burst(pixels, CAMERA, affine=False, coding=coding)
    assert psnr(fused.image, truth) > psnr(blind.image, truth) + 0.3
    assert fused.coding is not None
    true = (pixels - before).square().mean((1, 2, 3)).sqrt()
    assert ((fused.coding.error / true).log().abs() < math.log(2.5)).all()  # within a factor
    assert fused.frames[1].coding_error == pytest.approx(255 * float(fused.coding.error[1]))
    alone = fuse_alone(pixels, CAMERA, fused).coding
    assert alone is not None
    assert torch.equal(alone.error, fused.coding.error[:1])


def test_a_videos_coding_stands_in_for_jpeg() -> None:
    frames, _ = burst(motion(3), CAMERA, noise=2 / 255)
    coding = Coding(torch.full((3,), 5 / 255), torch.tensor([False, True, True]))
    with_jpeg = CAMERA.model_copy(update={"jpeg": Jpeg.of_quality(30)})
    images = [fuse_burst(frames, one, motion=motion(3), coding=coding).image for one in (CAMERA, with_jpeg)]
    assert torch.equal(*images)


def test_a_table_of_stills_tells_their_coding(tmp_path: Path) -> None:
    file = write(tmp_path / "clip.mkv")
    with open_video(file) as video:
        write_stills(video, file, tmp_path / "stills")
    told = list(still_frames(tmp_path / "stills").values())
    with open_video(file) as video, open_video(tmp_path / "stills") as stills:
        for one, again, listed in zip(video.frames, stills.frames, told, strict=True):
            assert one.qp is not None
            assert again.qp is not None
            assert listed.qp is not None
            assert abs(float(again.qp.mean()) - float(one.qp.mean())) <= 0.5
            assert listed.qp.tolist() == again.qp.tolist()
            assert (again.codec, again.picture_type) == ("h264", one.picture_type)
            assert (listed.codec, listed.picture_type) == ("h264", one.picture_type)


def test_stills_of_a_video_are_fused_by_their_table(tmp_path: Path) -> None:
    file = write(tmp_path / "clip.mkv")
    with open_video(file) as video:
        write_stills(video, file, tmp_path / "stills", pixels="luma")
    paths = sorted((tmp_path / "stills").glob("*.png"))[:2]
    done = fuse_files(paths, tmp_path / "a.png", 1, camera="bicubic")
    assert done.fused.coding is not None
    of_i, of_b = (255 * float(error) for error in done.fused.coding.error)
    said = f"compression that put frames off by {of_b:.1f} levels (h264 B), {of_i:.1f} levels (h264 I)"
    assert done.assumed == f"no blur, no noise, {said}"
    first, second = json.loads((tmp_path / "a.json").read_text("utf-8"))["frames"]
    assert (first["codec"], first["picture_type"], second["picture_type"]) == ("h264", "I", "B")
    assert first["coding_error"] == pytest.approx(0.7 * 2 ** (0.7 * (round(first["qp"]) - 4) / 6))
    assert verify_fusion(tmp_path / "a.json", rerun=True).ok
    (tmp_path / "stills" / "frames.csv").write_text("file,file_sha256,qp_mean\na.png,00,many\n")
    with pytest.raises(ImageError, match="quantisers are numbers"):
        fuse_files(paths, tmp_path / "b.png", 1, camera="bicubic")


def test_predicted_frames_count_as_a_part_of_one() -> None:
    coding = Coding(torch.full((3,), 0.01), torch.tensor([False, True, True]))
    assert coding.shares(1).tolist() == [1.0, 1.0, 0.25]
