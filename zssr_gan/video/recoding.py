"""Frames coded again by H.264, as coarsely as a video's were: what a network learns the errors of a codec from."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from zssr_gan.errors import SettingsError
from zssr_gan.video.coding import Coding, error_of, quantiser_of

_BLACK, _RANGE = 16, 219  # levels, as video stores luma
_QUANTISERS = {"I": -3, "B": 2}
"""By how much x264's lie above that of P frames."""


def coded_again(frames: Tensor, coding: Coding) -> tuple[Tensor, Coding]:
    """Luma through libx264 and back, at one quantiser, and what that did to it.

    The frames go through the encoder backwards and then forwards, so that the first one is predicted from others, too.

    Args:
        frames: `F 1 H W` in [0, 1], in the order of time.
        coding: of the video's frames; errors are known.

    Raises:
        SettingsError: PyAV is missing, or its build has no libx264.
    """
    try:
        import av
        from av.video.frame import PictureType

        encoder: Any = av.CodecContext.create("libx264", "w")
    except (ImportError, ValueError) as error:
        raise SettingsError(
            f"a mean of video frames is learnt through libx264, which is missing ({error}): pip install "
            "'zssr-gan[video]', or use --mean none"
        ) from error
    count, _, height, width = frames.shape
    quantiser = quantiser_of(coding)
    encoder.width, encoder.height, encoder.pix_fmt, encoder.thread_count = width, height, "gray", 1
    encoder.options = {"qp": str(quantiser), "x264-params": "log-level=none"}
    levels = (_BLACK + _RANGE * frames[:, 0]).round().clamp(0, 255).to(torch.uint8).numpy()
    packets = []
    for time, place in enumerate([*reversed(range(1, count)), *range(count)]):
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(levels[place]), "gray")
        frame.pts = time
        if time >= count - 1 and not coding.predicted[place]:
            frame.pict_type = PictureType.I
        packets += encoder.encode(frame)
    decoder: Any = av.CodecContext.create("h264", "r")
    decoder.thread_count = 1
    shown = [frame for packet in [*packets, *encoder.encode(None)] for frame in decoder.decode(packet)]
    shown = [*shown, *decoder.decode(None)][count - 1 :]
    pixels = np.stack(
        [np.frombuffer(frame.planes[0], np.uint8).reshape(-1, frame.planes[0].line_size) for frame in shown]
    )
    types = [PictureType(frame.pict_type).name for frame in shown]
    again = (torch.from_numpy(pixels[:, None, :height, :width]).float() - _BLACK) / _RANGE
    errors = [error_of(quantiser + _QUANTISERS.get(kind, 0), kind) for kind in types]
    return again.clamp(0, 1), Coding(torch.tensor(errors), torch.tensor([kind != "I" for kind in types]))
