"""Predictions of a trained segmentation network."""

from pathlib import Path

import numpy as np
import segmentation_models_pytorch as smp
import torch
from numpy.typing import NDArray
from torch import nn

from stedm.device import device
from stedm.errors import UserError
from stedm.segmentation.data import normalised


def load_network(folder: Path) -> nn.Module:
    """The network that `train_network` wrote, on the device, in eval mode.

    Raises:
        UserError: there is no such network in the folder.
    """
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder}: holds no segmentation network (config.json is missing); train it first")
    return smp.from_pretrained(str(folder)).to(device(), memory_format=torch.channels_last).eval()


@torch.inference_mode()
def predict_probabilities(network: nn.Module, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Class probabilities of patches.

    Args:
        network: from `load_network`.
        images: (B, P, P, 3) uint8 RGB; P a multiple of 2 to the power of the encoder's depth.

    Returns:
        (B, C, P, P) float32, summing to 1 over C.
    """
    scores = network(normalised(torch.from_numpy(images).to(device())))
    return scores.float().softmax(1).cpu().numpy()
