"""What is said of a training that diverged: at which step, and of which network, as far as is known."""

from pathlib import Path

import pytest
import torch

from zssr_gan.distributed import DataParallel, Ranks
from zssr_gan.errors import NumericalError
from zssr_gan.training.checkpoints import Checkpoints, Soundness


@pytest.fixture
def soundness(tmp_path: Path) -> Soundness:
    group = DataParallel(Ranks.alone(), torch.device("cpu"))
    return Soundness(Checkpoints(tmp_path, 1, {}, lambda _text: None), group)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize(
    ("who", "words"),
    [
        ("discriminator", "^step 1,234: the loss or gradient of the discriminator is NaN or infinite"),
        (None, "^at or before step 1,234: the loss or gradient of a network is NaN or infinite"),
    ],
)
def test_steps(soundness: Soundness, value: float, who: str | None, words: str) -> None:
    soundness.see(torch.tensor(1.0), torch.tensor(1e38))
    soundness.judge(1233, who)
    soundness.see(torch.tensor(value), torch.tensor(1.0))
    soundness.see(torch.tensor(1.0))  # what is finite again does not mend it
    with pytest.raises(NumericalError, match=words):
        soundness.judge(1234, who)


def test_outputs(soundness: Soundness) -> None:
    soundness.judge_outputs(5, [torch.ones(1, 2, 2)])
    with pytest.raises(NumericalError, match=r"^step 5: the generator's outputs are NaN or infinite"):
        soundness.judge_outputs(5, [torch.ones(1, 2, 2), torch.full((1, 2, 2), torch.nan)])
