"""The loss of the segmentation network."""

import segmentation_models_pytorch as smp
from torch import Tensor
from torch.nn import functional

from stedm.config import IGNORE_INDEX, Loss

soft_dice = smp.losses.DiceLoss("multiclass", ignore_index=IGNORE_INDEX)


def segmentation_loss(scores: Tensor, labels: Tensor, options: Loss) -> Tensor:
    """Weighted sum of cross-entropy and soft Dice loss over the annotated pixels of the centre crop.

    Args:
        scores: (B, C, H, W) float logits.
        labels: (B, H, W) integer, 255 = not annotated.
        options: the weights, and the border in pixels that is left out.

    Returns:
        Scalar; zero where nothing is annotated. Dice is that of each class over the whole batch, and a class that the
        batch does not show counts as perfect.
    """
    margin = options.crop_margin
    inside = slice(margin, labels.shape[-1] - margin)
    scores, labels = scores[..., inside, inside].float(), labels[..., inside, inside].long()
    annotated = (labels != IGNORE_INDEX).sum().clamp(min=1)
    entropy = functional.cross_entropy(scores, labels, ignore_index=IGNORE_INDEX, reduction="sum") / annotated
    return options.cross_entropy * entropy + options.dice * soft_dice(scores, labels)
