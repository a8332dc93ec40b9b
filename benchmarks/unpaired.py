"""The generator of stage 2 against truths that it never sees: what each setting is worth.

    python -m benchmarks.unpaired FACES --weights folder --out folder
    python -m benchmarks.unpaired FACES --weights folder --out folder --only "content; adversarial"
    python -m benchmarks.unpaired FACES --weights folder --out folder --blind 3 --only "content; recommended"

Truth = the face at 64x64 (antialiased bicubic, 8 bit), LR = halved the same way, 8 bit; with `--blind N`, N groups of
100 faces of which each has a degradation of its own (benchmarks/blind.py), estimated from its LR images. 52 faces (20
of a group) are set apart. Stage 1 is a shared model learnt on the other LR images; it enlarges all. Generators learn
from these LR images and their synthetic HR images, by the settings in unpaired.yaml. `net` is the generator's output as
it is; `whole` is what `enhance --model` makes of it: the median of eight flips and rotations, back-projected; `before`
is the generator after the content phase, with the learning rate that it had there.

Writes figures.csv, a sheet of faces and what was made (safetensors) into the folder; what is made already with the same
settings is only measured again.
"""

import argparse
import csv
import io
import time
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from benchmarks import blind
from benchmarks.unpaired_figures import Eyes, Faces, Judge
from zssr_gan.degradation.estimator import estimate_degradation
from zssr_gan.degradation.operators import BicubicDownscale, back_project
from zssr_gan.devices import Machine, RunOptions, machine
from zssr_gan.evaluation.blind import QUALITIES, draw_degradation
from zssr_gan.evaluation.metrics.planes import rounded
from zssr_gan.files import atomic_write, canonical_sha256
from zssr_gan.imaging import dihedral
from zssr_gan.imaging.io import encode_picture, read_picture
from zssr_gan.imaging.picture import Metadata, Picture
from zssr_gan.imaging.resize import resize
from zssr_gan.imaging.sheets import contact_sheet
from zssr_gan.networks.base import GeneratorNetwork
from zssr_gan.networks.pretrained import vgg
from zssr_gan.networks.registry import mediator_options
from zssr_gan.provenance import CaseImage
from zssr_gan.settings.base import merged, read_yaml
from zssr_gan.settings.train import TrainSettings
from zssr_gan.settings.zeroshot import load_preset
from zssr_gan.training.dataset import TrainingData
from zssr_gan.training.loop import Callbacks, Loop
from zssr_gan.training.sampling import Images
from zssr_gan.zeroshot.ensemble import apply_many, finish, median
from zssr_gan.zeroshot.pairs import Task
from zssr_gan.zeroshot.shared import learn_shared

SIDE, UNSEEN, UNSEEN_OF_GROUP = 64, 52, 20
HELD_OUT = 8
ALL_SEEN = 250
X2 = (2.0, 2.0)
ITERATIONS = 10
VARIANTS = Path(__file__).with_name("unpaired.yaml")


def bicubic_case(truths: Tensor) -> Faces:
    """The protocol of the faces: halved by bicubic."""
    return Faces(truths, rounded(resize(truths, (SIDE // 2, SIDE // 2))), BicubicDownscale(), UNSEEN)


def blind_case(truths: Tensor, number: int, rng: np.random.Generator, seed: int) -> Faces:
    """A group of the protocol `blind`, with the degradation that is estimated from its LR images."""
    quality = QUALITIES[number % len(QUALITIES)]
    group = blind.make_group(truths, draw_degradation(rng, quality), seed * 1000 + number)
    estimate = estimate_degradation(group.evidence, seed=seed)
    print(f"group {number}: {blind.report(group, estimate, 0.0)}", flush=True)
    return Faces(truths, group.lr, estimate.degradation.downscale, UNSEEN_OF_GROUP)


def first_stage(faces: Faces, preset: str, seed: int, used: Machine) -> Tensor:
    """Synthetic HR images `B 3 64 64` of all, by a network learnt on the LR images that are seen; on 8-bit levels."""
    settings = load_preset(preset).for_case()
    images = [(CaseImage(name=str(n), sha256=""), x) for n, x in enumerate(faces.lr[: faces.seen])]
    start = learn_shared(images, settings, X2, faces.downscale, seed=seed, machine=used)
    task = Task.of(X2, settings.network.grid, faces.downscale, used.precision)
    return rounded(torch.stack(apply_many(start.network(), list(faces.lr.to(used.device)), settings, task)).cpu())


def trained(
    faces: Faces, stage_1: Tensor, settings: TrainSettings, seed: int, used: Machine
) -> tuple[dict[str, GeneratorNetwork], int]:
    """The generators at the end of each phase of a training on the faces that are seen, and its steps."""
    lr, hr = ((x * 255).round().to(torch.uint8) for x in (faces.lr, stage_1))

    def images(first: int, end: int) -> Images:
        ids = tuple(str(n) for n in range(first, end))
        return Images(ids, tuple(lr[first:end]), tuple(hr[first:end]), (0,) * len(ids))

    # A few for validation, as the loop asks for; they are trained on by none either.
    reals, held_out = images(0, faces.seen), images(faces.seen, faces.seen + HELD_OUT)
    material = TrainingData(reals, reals, held_out, (faces.downscale,), 3, 2, ())
    mediator = None
    if settings.losses.need_features:
        mediator = vgg(mediator_options(settings.mediator), settings.mediator.weights, seed=seed)[0].to(used.device)
    with TemporaryDirectory() as folder:
        phases: dict[str, GeneratorNetwork] = {}
        callbacks = Callbacks(
            notice=lambda text: print(f"    {text}", flush=True),
            best=lambda generator, _step, phase, _figures: phases.update({phase: deepcopy(generator)}),
        )
        loop = Loop(
            settings, material, mediator, seed=seed, machine=used, folder=Path(folder), facts={}, callbacks=callbacks
        )
        loop.run()
    return phases, loop.schedule.total


@torch.no_grad()
def results(generator: GeneratorNetwork, faces: Faces, used: Machine) -> dict[str, Tensor]:
    """Of all faces: as the network gives them, and as `enhance --model` does."""
    generator.eval()
    views = []
    for k in range(8):
        made = [generator(dihedral.transform(x, k).to(used.device)).cpu() for x in faces.lr.split(32)]
        views.append(dihedral.inverse(torch.cat(made), k))
    whole = finish(median(torch.stack(views)), faces.lr, faces.downscale, ITERATIONS)
    return {"net": views[0].clamp(0, 1), "whole": whole}


class Table:
    """Rows of figures, in a CSV file and on the screen."""

    def __init__(self, path: Path, judge: Judge) -> None:
        self.path, self.judge = path, judge
        self.text = io.StringIO()
        self.writer = csv.writer(self.text, lineterminator="\n")

    def add(self, name: str, images: Tensor) -> None:
        """Measure results `B 3 64 64`."""
        row = self.judge.row(images)
        if not self.text.tell():
            self.writer.writerow(["method", *row])
        self.writer.writerow([name, *(f"{value:.4f}" for value in row.values())])
        atomic_write(self.path, self.text.getvalue().encode(), overwrite=True)
        print(f"| {name} | " + " | ".join(f"{value:.4g}" for value in row.values()) + " |", flush=True)


@dataclass
class Bench:
    """One case after the other; what is there already is not made again."""

    args: argparse.Namespace
    used: Machine
    eyes: Eyes

    def run(self, faces: Faces, folder: Path) -> None:
        """All rows of a case."""
        folder.mkdir(parents=True, exist_ok=True)
        kept = folder / f"stage-1-{self.args.preset}-{self.args.seed}.safetensors"
        if not kept.exists():
            began = time.perf_counter()
            made = first_stage(faces, self.args.preset, self.args.seed, self.used)
            print(f"stage 1 ({self.args.preset}): {time.perf_counter() - began:.0f} s", flush=True)
            save_file({"results": made}, kept)
        stage_1 = load_file(kept)["results"]
        judge = Judge(faces, stage_1, self.eyes)
        bicubic = resize(faces.lr, (SIDE, SIDE)).clamp(0, 1)
        projected = back_project(bicubic.clone(), faces.lr, faces.downscale, ITERATIONS).clamp(0, 1)
        shown = {"bicubic": bicubic, "back-projected": projected, "stage 1": stage_1}
        table = Table(folder / "figures.csv", judge)
        for name, images in {**shown, "truth": faces.truths}.items():
            table.add(name, images)
        for name, group in self.variants().items():
            # Other settings, another file: nothing old is shown under a new name.
            told = canonical_sha256({"train": group, "preset": self.args.preset, "seed": self.args.seed})
            kept = folder / f"{name.replace(', ', '-').replace(' ', '-')}-{told[:8]}.safetensors"
            if not kept.exists():
                save_file(self.make(name, group, faces, stage_1), kept)
            for kind, images in load_file(kept).items():
                table.add(f"{name}, {kind}", images)
            shown[name] = load_file(kept)["whole"]
        self.draw({**shown, "truth": faces.truths}, folder, faces)

    def variants(self) -> dict[str, dict[str, Any]]:
        """The groups `train` that are asked for: each is the base with some of its settings changed."""
        vgg16 = str(self.args.weights / "vgg16.safetensors")
        read = read_yaml(VARIANTS.read_text("utf-8").replace("VGG16", vgg16))
        wanted = [name.strip() for name in self.args.only.split(";")] if self.args.only else list(read["variants"])
        return {name: merged(read["base"], read["variants"][name]) for name in wanted}

    @staticmethod
    def of_size(group: dict[str, Any], faces: Faces) -> TrainSettings:
        """With as many steps as for the case of all faces: a smaller one goes through its images more often."""
        times = round(ALL_SEEN / faces.seen)
        return TrainSettings.model_validate({**group, **{name: times * group[name] for name in ("pretrain", "epochs")}})

    def make(self, name: str, group: dict[str, Any], faces: Faces, stage_1: Tensor) -> dict[str, Tensor]:
        """Train, and enlarge all faces."""
        began = time.perf_counter()
        phases, steps = trained(faces, stage_1, self.of_size(group, faces), self.args.seed, self.used)
        print(f"{name}: {steps} steps, {time.perf_counter() - began:.0f} s", flush=True)
        made = {phase: results(generator, faces, self.used) for phase, generator in phases.items()}
        if len(made) == 1:
            return made["pretrain"]
        return made["adversarial"] | {f"before, {kind}": images for kind, images in made["pretrain"].items()}

    @staticmethod
    def draw(shown: dict[str, Tensor], folder: Path, faces: Faces) -> None:
        """Some faces that were not trained on, a row each."""
        chosen = range(faces.seen, len(faces.truths), 6)
        rows = [[("LR", faces.lr[n]), *((name, images[n]) for name, images in shown.items())] for n in chosen]
        sheet = Picture(contact_sheet(rows, cell=192), None, 8, Metadata())
        atomic_write(folder / "sheet.png", encode_picture(sheet, "png", {}), overwrite=True)


def main() -> None:
    """Make the cases, and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--weights", type=Path, required=True, help="made by benchmarks/lpips_weights.py")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", default="", help="variants of unpaired.yaml, with semicolons between them")
    parser.add_argument("--blind", type=int, default=0, metavar="N", help="groups of the protocol `blind` instead")
    parser.add_argument("--preset", default="quality", help="of stage 1")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--threads", type=int, default=None)
    args = parser.parse_args()
    files = sorted(args.folder.glob("*.png"))
    rng = np.random.default_rng(args.seed)
    truths = torch.stack([rounded(resize(read_picture(file).pixels, (SIDE, SIDE))) for file in files])
    truths = truths[rng.permutation(len(truths))]
    with machine(RunOptions(args.device, args.precision, args.threads)) as used:
        bench = Bench(args, used, Eyes(args.weights))
        if not args.blind:
            bench.run(bicubic_case(truths), args.out)
        for number in range(args.blind):
            part = truths.roll(-100 * number, 0)[:100]
            bench.run(blind_case(part, number, rng, args.seed), args.out / f"group-{number}")


if __name__ == "__main__":
    main()
