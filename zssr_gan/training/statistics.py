"""Statistics of batch normalisation for the generator that is used: of its own weights, with all blocks on.

Those that a training gathers along the way are of another network: blocks are skipped for a whole epoch, and a momentum
of 0.1 has forgotten the epochs before; the weights have moved since, or are now a mean; other passes have mixed in.
"""

import torch
from torch.optim.swa_utils import update_bn

from zssr_gan.networks.generators import GeneratorNetwork
from zssr_gan.training.sampling import Sampler

_BATCHES = 32


def retake_statistics(generator: GeneratorNetwork, sampler: Sampler, device: torch.device) -> None:
    """Replace them by their plain mean over the sampler's first batches (Wu & Johnson 2021, "Rethinking 'Batch' in
    BatchNorm", precise BN). Without batch normalisation nothing is drawn or computed.

    Always the same batches: the result hangs on the weights alone, so a resumed run has it too.

    Args:
        generator: on the device; its mode stays, and so do its weights.
        sampler: of the images that it learns from; of whole batches, since one process does this for all.
        device: where the generator is.
    """
    generator.skip_nothing()
    update_bn((sampler.batch(number).lr for number in range(_BATCHES)), generator, device)
