"""Features by which images are compared: one vector per image, from a network."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import torch

from stedm.device import device
from stedm.errors import UserError
from stedm.images import to_images
from stedm.segmentation.network import load_network

Extract = Callable[[np.ndarray], np.ndarray]
"""Images (B, P, P, 3) uint8 → features (B, D) float32."""


def feature_extractor(name: str, segmenter: Path | None) -> Extract | None:
    """The feature extractor with a name.

    Args:
        name: `segmenter` (the encoder of the network in that folder: spatial means of its deepest maps), `inception`
            (the Inception-v3 of Heusel et al. 2017, with which published FIDs are measured), or a timm model, a hub id
            (`hf-hub:owner/name`) or a folder that timm reads.
        segmenter: folder of a segmentation network.

    Returns:
        The extractor; None for `segmenter` without a folder.

    Raises:
        UserError: the network's weights are not available.
    """
    match name:
        case "segmenter":
            return segmenter_features(segmenter) if segmenter else None
        case "inception":
            return inception_features()
        case _:
            return timm_features(name)


def segmenter_features(folder: Path) -> Extract:
    network = load_network(folder)
    encoder: Any = network.unet.encoder

    @torch.inference_mode()
    def extract(images: np.ndarray) -> np.ndarray:
        maps = encoder(network.dataset.normalisation.apply(torch.from_numpy(images).to(device())))[-1]
        return maps.mean((2, 3)).float().cpu().numpy()

    return extract


def inception_features() -> Extract:
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3, FeatureExtractorInceptionV3

    try:
        network = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], verbose=False)
    except (URLError, OSError) as error:
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        raise UserError(
            f"evaluation.features: the weights of `inception` cannot be downloaded ({error}). Save"
            f" {URL_INCEPTION_V3} in {folder}, or set evaluation.features to `segmenter`, a timm model or a model's"
            " folder"
        ) from error
    network = network.to(device()).eval()

    @torch.inference_mode()
    def extract(images: np.ndarray) -> np.ndarray:
        (features,) = network(torch.from_numpy(images).movedim(-1, 1).contiguous().to(device()))
        return features.cpu().numpy()

    return extract


def timm_features(name: str) -> Extract:
    from stedm.style.encoder import from_timm, prepare

    network, _, _, preparation = from_timm(name, pretrained=True, frozen=True)
    network = network.to(device()).eval()

    @torch.inference_mode()
    def extract(images: np.ndarray) -> np.ndarray:
        return network(prepare(to_images(images).to(device()), preparation)).float().cpu().numpy()

    return extract


def features_of(batches: Iterable[np.ndarray], extract: Extract) -> np.ndarray:
    """(N, D) features of all images in the batches."""
    return np.concatenate([extract(images) for images in batches])
