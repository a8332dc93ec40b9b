"""How much of a running job is done, and how long it still takes."""

from collections.abc import Mapping
from typing import Any


class TimeLeft:
    """Of one run of a job; the share that is done never goes back.

    Args:
        whole: seconds that the job is expected to take; None: not known.
    """

    def __init__(self, whole: float | None) -> None:
        self._whole, self._share = whole, None if whole is None else 0.0

    def update(self, shown: Mapping[str, Any], elapsed: float) -> dict[str, Any]:
        """What the command shows, with the `left_s` of the job and the `share` of it that is done; None: not known.

        Of several images a command knows the time left from the end of the first; of one, it knows that of a stage
        alone, which is not the job's. Once a job has taken longer than expected, nothing is known.

        Args:
            shown: a line of `ZSSR_GAN_PROGRESS=json`, or nothing yet.
            elapsed: seconds since the job began.
        """
        left = shown.get("left_s") if shown.get("images", 1) > 1 else None
        if left is None and self._whole is not None and elapsed < self._whole:
            left = self._whole - elapsed
        if left is not None and elapsed > 0:
            self._share = max(self._share or 0.0, elapsed / (elapsed + left))
        return {
            **shown,
            "left_s": None if left is None else round(left, 1),
            "share": None if self._share is None else min(0.99, round(self._share, 3)),
        }
