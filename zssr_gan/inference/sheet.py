"""One sheet over all images of a run: input, plain interpolation, result and evidence map side by side."""

from pathlib import Path

from torch import Tensor

from zssr_gan.files import atomic_write
from zssr_gan.imaging.resize import resize
from zssr_gan.imaging.sheets import contact_sheet, encode_sheet, evidence_overlay, round_limit
from zssr_gan.inference.enhance import Enhanced
from zssr_gan.inference.outputs import ImageTask
from zssr_gan.inference.record import Record
from zssr_gan.inference.region import region_text
from zssr_gan.provenance import VERSION, provenance_text, strongest

ROWS = 100
"""Images that one sheet shows at most; more would make a picture that no viewer opens."""

SIDE = 512
"""Pixels that a sheet keeps of an image's longer side."""


class Sheet:
    """Gathers the rows of a contact sheet, reduced at once so that the memory does not grow with the photographs."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.left_out = 0
        self._rows: list[list[tuple[str, Tensor]]] = []
        self._records: list[Record] = []

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, task: ImageTask, enhanced: Enhanced, record: Record) -> None:
        """Add one image's row, with the label of its record."""
        if len(self._rows) == ROWS:
            self.left_out += 1
            return
        limit = round_limit(enhanced.disagreement)
        overlay = evidence_overlay(enhanced.disagreement, limit=limit)
        region = enhanced.request.region
        part = "" if region is None else f", region {region_text(region)}"
        cells = [
            (f"{task.source.name}{part}", enhanced.shown),
            ("bicubic", enhanced.bicubic),
            (f"{task.result.name}\n{record.label}", enhanced.picture.pixels),
            (f"disagreement of the views, brightest {limit:g} levels", overlay),
        ]
        self._rows.append([(caption, reduced(image)) for caption, image in cells])
        self._records.append(record)

    def write(self, *, overwrite: bool) -> bool:
        """Write the sheet; returns whether there was anything to show.

        Raises:
            OutputError: the file exists and `overwrite` is not set, or the disk refuses it.
        """
        if not self._rows:
            return False
        text = provenance_text(
            kind="comparison sheet",
            version=VERSION,
            label=strongest(*(record.label for record in self._records)),
            facts={"input-sha256": " ".join(record.input.sha256 for record in self._records)},
        )
        content = encode_sheet(contact_sheet(self._rows), "comparison sheet", text, extension=self.path.suffix)
        atomic_write(self.path, content, overwrite=overwrite)
        return True


def reduced(image: Tensor) -> Tensor:
    """An image (`C H W`, [0, 1]) as a sheet needs it: a copy of at most 512 pixels a side."""
    height, width = image.shape[-2:]
    factor = SIDE / max(height, width)
    if factor >= 1:
        return image.clone()  # a view would keep the whole photograph alive
    return resize(image, (max(1, round(height * factor)), max(1, round(width * factor)))).clamp(0, 1)
