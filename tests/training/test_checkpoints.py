"""The message of a training that diverged: at which step, and of which network, as far as is known."""

from pathlib import Path

import pytest
import torch

from zssr_gan.distributed import DataParallel, Ranks
from zssr_gan.errors import NumericalError
from zssr_gan.training.checkpoints import Checkpoints, FiniteCheck


@pytest.fixture
def finite(tmp_path: Path) -> FiniteCheck:
    group = DataParallel(Ranks.alone(), torch.device("cpu"))
    return FiniteCheck(Checkpoints(tmp_path, 1, {}, lambda _text: None), group)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize(
    ("who", "words"),
    [
        ("discriminator", "^step 1,234: the loss or gradient of the discriminator is NaN or infinite"),
        (None, "^at or before step 1,234: the loss or gradient of a network is NaN or infinite"),
    ],
)
def test_steps(finite: FiniteCheck, value: float, who: str | None, words: str) -> None:
    finite.add(torch.tensor(1.0), torch.tensor(1e38))
    finite.check(1233, who)
    finite.add(torch.tensor(value), torch.tensor(1.0))
    finite.add(torch.tensor(1.0))  # what is finite again does not mend it
    with pytest.raises(NumericalError, match=words):
        finite.check(1234, who)


def test_outputs(finite: FiniteCheck) -> None:
    finite.check_outputs(5, [torch.ones(1, 2, 2)])
    with pytest.raises(NumericalError, match=r"^step 5: the generator's outputs are NaN or infinite"):
        finite.check_outputs(5, [torch.ones(1, 2, 2), torch.full((1, 2, 2), torch.nan)])
