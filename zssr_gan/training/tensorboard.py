"""metrics.jsonl and the sheets of samples for TensorBoard, in `train/tensorboard/`: the extra `zssr-gan[tensorboard]`.

A resumed run writes a file of its own there, and says from which step on what earlier files hold is void.
"""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from PIL import Image

from zssr_gan.errors import OutputError, SettingsError

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class Board:
    """Writes events into a folder; a context manager, since some of them wait in memory.

    Raises SettingsError where the package is missing.
    """

    writer: "SummaryWriter | None" = None
    """There from `begin` on."""

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter  # an extra: takes a second, and not everyone has it
        except ImportError as error:
            raise SettingsError(
                "train.tensorboard: the package tensorboard is missing: pip install 'zssr-gan[tensorboard]', or set it "
                "to false."
            ) from error
        self.folder, self._new = folder, SummaryWriter

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.writer is not None:
            self.writer.close()

    def begin(self, step: int) -> None:
        """Go on after `step`: what is there of later steps is void. Raises OutputError."""
        try:
            self.writer = self._new(str(self.folder), purge_step=step + 1)
        except OSError as error:
            raise OutputError(f"{self.folder}: cannot be written ({error.strerror}).") from error

    def line(self, step: int, values: Mapping[str, Any]) -> None:
        """Add the numbers of a line of metrics.jsonl, each under its network's name, `validation` or `epoch`."""
        assert self.writer is not None
        group = next((name for name in ("validation", "epoch") if name in values), None)
        for name, value in (values if group is None else values[group]).items():
            if isinstance(value, int | float):
                self.writer.add_scalar(f"{group or values['who']}/{name}", value, step)
        # A kill must not leave a hole before the checkpoint that the run resumes from.
        self.writer.flush()

    def sheet(self, step: int, png: bytes) -> None:
        """Add a sheet of samples."""
        assert self.writer is not None
        with Image.open(io.BytesIO(png)) as picture:
            self.writer.add_image("samples", np.asarray(picture.convert("RGB")), step, dataformats="HWC")
        self.writer.flush()
