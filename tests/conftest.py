"""What every test stands on: one thread (the same bytes on every machine size), two real pictures, an estimate."""

import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data
from torch import Tensor

from tests.zeroshot.native import QUICK
from zssr_gan.degradation import estimator
from zssr_gan.degradation.estimate import Brightness, Certainty, Estimate
from zssr_gan.degradation.model import Degradation, GaussianBlur, Noise
from zssr_gan.inference import case as inference_case
from zssr_gan.provenance import CaseImage
from zssr_gan.zeroshot import case as zeroshot_case

os.environ["OMP_NUM_THREADS"] = "1"
"""Of the processes that tests start: the cores are taken by pytest's own."""

LONG = ("tests/pipelines/", "tests/training/", "tests/test_wheel.py", "tests/test_readme.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first: a file is run by one process, and none shall be left with a long one at the end."""
    items.sort(key=lambda item: not any(part in item.path.as_posix() for part in LONG))


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _own_signal_handlers() -> Iterator[None]:
    """Python's own handlers, whatever the shell or an earlier test set; those from before come back afterwards.

    Where a shell ignores Ctrl-C (`make test &`, nohup), the processes that a test starts would inherit it.
    """
    before = {
        number: signal.signal(number, own)
        for number, own in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL))
    }
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


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


@pytest.fixture(scope="module")
def quick_estimates() -> Iterator[None]:
    """Estimates of a degradation that ask for no settings are coarse, and take a tenth of the time."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (estimator, zeroshot_case, inference_case):
            patch.setattr(module, "EstimationSettings", lambda: QUICK)
        yield


@pytest.fixture(scope="session")
def make_estimate() -> Callable[..., Estimate]:
    """Makes an estimate as if it had been made of images of those hashes; other fields can be given.

    Without a hash it is one that a person gave.
    """
    blur = GaussianBlur(sigma_major=0.9, sigma_minor=0.4, angle_degrees=30)
    parts = tuple(GaussianBlur(sigma_major=0.9 + n / 50, sigma_minor=0.4, angle_degrees=30 + n) for n in (-1, 0, 1))

    given = {"blur_estimated": None, "certainty": None, "noise_from": "nothing", "noise_by_brightness": ()}

    def make(*hashes: str, degradation: Degradation | None = None, **changes: Any) -> Estimate:
        used = Degradation(blur=blur, noise=Noise(sigma=0.01)) if degradation is None else degradation
        return Estimate(
            **{
                "degradation": used,
                "degradation_sha256": used.sha256,
                "blur_estimated": blur,
                "fallback": False,
                "why": "the blur is 9.0 times as far from bicubic as its standard error (2 times are needed)",
                "certainty": Certainty(
                    blurs=parts,
                    tiles=40,
                    sigma_major=0.02,
                    sigma_minor=0.01,
                    spread_db=50.0,
                    bicubic_db=31.0,
                    misfit=0.01,
                    misfit_bicubic=0.3,
                ),
                "noise_from": "colours",
                "noise_by_brightness": (
                    Brightness(brightness=0.3, sigma=0.009),
                    Brightness(brightness=0.7, sigma=0.011),
                ),
                "jpeg_from": "nothing",
                "images": tuple(CaseImage(name=f"{n}.png", sha256=sha256) for n, sha256 in enumerate(hashes)),
                "settings": {},
                "seed": 0,
                "versions": {},
                **({} if hashes else given),
                **changes,
            }
        )

    return make
