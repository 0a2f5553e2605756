"""Between pixels and tensors, and the eight orientations of an image."""

import numpy as np
import torch
from torch import Tensor


def to_images(pixels: np.ndarray | Tensor) -> Tensor:
    """uint8 (…, H, W, 3) → float32 (…, 3, H, W) in [-1, 1], on the device of the pixels."""
    if isinstance(pixels, np.ndarray):
        pixels = torch.from_numpy(np.ascontiguousarray(pixels))
    return pixels.movedim(-1, -3).float() / 127.5 - 1


def to_pixels(images: Tensor) -> np.ndarray:
    """float (…, 3, H, W) in [-1, 1] → uint8 (…, H, W, 3)."""
    return ((images.float().clamp(-1, 1) + 1) * 127.5).round().byte().movedim(-3, -1).cpu().numpy()


def dihedral(image: np.ndarray, which: int) -> np.ndarray:
    """Flip and quarter turn number `which` of 8 of an image (H, W, …) or layout (H, W)."""
    image = np.rot90(image, which % 4)
    return image[:, ::-1] if which >= 4 else image
