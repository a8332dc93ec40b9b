"""degradation.png: what is assumed of each camera, one picture below the other."""

import torch
import torch.nn.functional as F

from zssr_gan.data.cameras import CaseDegradations
from zssr_gan.imaging.codecs import Metadata, encode_picture
from zssr_gan.imaging.picture import Picture
from zssr_gan.record import MARK
from zssr_gan.zeroshot.degradation_picture import degradation_picture


def degradations_png(degradations: CaseDegradations) -> bytes:
    """A picture for each group."""
    pictures = [degradation_picture(one.estimate, one.group) for one in degradations.groups]
    widest = max(picture.shape[2] for picture in pictures)
    filled = [F.pad(picture, (0, widest - picture.shape[2]), value=1.0) for picture in pictures]
    return encode_picture(Picture(torch.cat(filled, 1), None, 8, Metadata()), "png", {MARK: "degradation"})
