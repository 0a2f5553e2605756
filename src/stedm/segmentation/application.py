"""How a network is applied to a slide: as it is, or with the slide's tissue, without labels, as a guide.

`normalise` recolours the slide to the slides that the network was trained on, from its own moments to their mean
(`stedm.style.moments`). `adabn` takes the statistics of batch normalisation from the slide (Li et al. 2018,
"Adaptive batch normalization for practical domain adaptation"). Both look at no more than 256 patches of its tissue.
"""

import copy
import logging
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from torch.nn.modules.batchnorm import _BatchNorm

from stedm.config import Application
from stedm.device import device
from stedm.images import to_images, to_pixels
from stedm.segmentation.network import Moments, TrainedNetwork, predict_probabilities
from stedm.segmentation.windows import Predict
from stedm.slides import OpenedSlide
from stedm.store import PatchFile
from stedm.style import moments
from stedm.style.canonical import as_lists, from_lists

SEEN = 256
"""Patches of a slide that its moments and statistics are taken from, at most."""
BATCH = 64

log = logging.getLogger(__name__)


def applied(
    network: TrainedNetwork, application: Application, opened: OpenedSlide, corners: Callable[[], np.ndarray]
) -> Predict:
    """The network as it is applied to one slide.

    Args:
        network: from `load_network`.
        application: how.
        opened: the slide, at the resolution of the network's patches.
        corners: finds the upper left corners (N, 2), in level-0 pixels, of its patches with tissue.

    Returns:
        Images (B, P, P, 3) uint8 of the slide → probabilities (B, C, P, P).
    """
    if application == "as_is":
        return partial(predict_probabilities, network)
    places = corners()
    read = opened.read_patches(places[some_of(len(places))], network.dataset.patches.size)
    images = [image for image in read if image is not None]
    if len(images) < 2:
        log.warning("%s: has too little tissue for application %s: as_is", opened.slide.slide, application)
        return partial(predict_probabilities, network)
    if application == "adabn":
        return partial(predict_probabilities, with_statistics_of(batches_of(images), network))
    own, reference = moments.moments_over(np.stack(images)), from_lists(network.dataset.reference.model_dump())
    return lambda images: predict_probabilities(network, recoloured(images, own, reference))


def some_of(count: int) -> np.ndarray:
    """Numbers of at most 256 of so many patches, from all over the slide, in random order."""
    return np.random.default_rng(0).permutation(count)[:SEEN]


def batches_of(images: Sequence[np.ndarray]) -> list[np.ndarray]:
    """As few batches (≤ 64, P, P, 3) as possible, of about the same size."""
    return np.array_split(np.stack(images), -(-len(images) // BATCH))


def with_statistics_of(batches: Sequence[np.ndarray], network: TrainedNetwork) -> TrainedNetwork:
    """The network with the statistics of these images (B, P, P, 3) uint8 in its batch normalisation."""
    unet = copy.deepcopy(network.unet)
    for layer in unet.modules():
        if isinstance(layer, _BatchNorm):
            layer.reset_running_stats()
            layer.momentum = None  # the mean over all batches
            layer.train()
    adapted = network._replace(unet=unet)
    for images in batches:
        predict_probabilities(adapted, images)
    unet.eval()
    return adapted


def reference_moments(files: Sequence[PatchFile]) -> Moments:
    """Mean of the moments of training slides."""
    found = [moments.slide_moments(file) for file in files]
    return Moments.model_validate(as_lists(moments.average(moments.joined(found))))


@torch.inference_mode()
def recoloured(images: np.ndarray, own: moments.Moments, reference: moments.Moments) -> np.ndarray:
    """Images (B, P, P, 3) uint8 of a slide with these moments, recoloured to the reference."""
    return to_pixels(moments.recolour(to_images(images).to(device()), own.to(device()), reference.to(device())))
