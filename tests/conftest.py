"""What every test stands on: one thread (the same bytes on every machine size) and two real pictures."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data
from torch import Tensor


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def astronaut() -> Tensor:
    """3 64 64, [0, 1]: the face of scikit-image's astronaut, halved twice from 256 px."""
    crop_HWC = data.astronaut()[0:256, 96:352]
    small_HWC = np.asarray(Image.fromarray(crop_HWC).resize((64, 64), Image.Resampling.BICUBIC))
    return torch.from_numpy(small_HWC.copy()).permute(2, 0, 1).float() / 255


@pytest.fixture(scope="session")
def face() -> Tensor:
    """1 25 25, [0, 1]: a real gray face at its native size (the first of scikit-image's lfw_subset)."""
    return torch.from_numpy(data.lfw_subset()[0]).float()[None]
