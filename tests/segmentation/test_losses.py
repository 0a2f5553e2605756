import math

import pytest
import torch

from stedm.config import Loss
from stedm.segmentation.losses import segmentation_loss

ENTROPY, DICE = Loss(cross_entropy=1, dice=0), Loss(cross_entropy=0, dice=1)


@pytest.fixture
def labels():
    """(2, 8, 8), left half class 0, right half class 1."""
    labels = torch.zeros(2, 8, 8, dtype=torch.uint8)
    labels[..., 4:] = 1
    return labels


def scores_of(labels, certainty):
    return certainty * torch.nn.functional.one_hot(labels.long() % 2, 2).movedim(-1, 1).float()


@pytest.mark.parametrize("options", [ENTROPY, DICE])
def test_perfect_prediction_has_no_loss(labels, options):
    assert segmentation_loss(scores_of(labels, 30), labels, options).item() == pytest.approx(0, abs=1e-6)


def test_opposite_prediction_has_the_whole_dice_loss(labels):
    assert segmentation_loss(scores_of(1 - labels, 30), labels, DICE).item() == pytest.approx(1, abs=1e-6)


def test_undecided_prediction_has_the_losses_of_the_formulas(labels):
    undecided = torch.zeros(2, 2, 8, 8)
    assert segmentation_loss(undecided, labels, ENTROPY).item() == pytest.approx(math.log(2))
    # Dice of a class that is half of the pixels, at p = 0.5: 2·(N/4) / (N/2 + N/2)
    assert segmentation_loss(undecided, labels, DICE).item() == pytest.approx(0.5)
    both = segmentation_loss(undecided, labels, Loss(cross_entropy=0.1, dice=0.9)).item()
    assert both == pytest.approx(0.1 * math.log(2) + 0.9 * 0.5)


@pytest.mark.parametrize("options", [ENTROPY, DICE])
def test_pixels_that_nobody_annotated_do_not_matter(labels, options):
    torch.manual_seed(0)
    kept = torch.randn(2, 2, 8, 8)
    cropped = segmentation_loss(kept[..., :5, :], labels[..., :5, :], options)
    labels[..., 5:, :] = 255
    scores = kept.clone().requires_grad_()
    loss = segmentation_loss(scores, labels, options)
    loss.backward()
    assert loss.item() == pytest.approx(cropped.item(), rel=1e-5)
    assert (scores.grad[..., 5:, :] == 0).all()
    assert (scores.grad[..., :5, :] != 0).all()


@pytest.mark.parametrize("options", [ENTROPY, DICE])
def test_border_is_left_out(labels, options):
    torch.manual_seed(0)
    scores = torch.randn(2, 2, 8, 8)
    expected = segmentation_loss(scores[..., 2:6, 2:6], labels[..., 2:6, 2:6], options)
    assert segmentation_loss(scores, labels, options.model_copy(update={"crop_margin": 2})) == expected
    assert segmentation_loss(scores, labels, options) != expected


def test_batch_without_annotated_pixels_has_no_loss_and_no_gradient():
    scores = torch.randn(2, 2, 8, 8, requires_grad=True)
    loss = segmentation_loss(scores, torch.full((2, 8, 8), 255, dtype=torch.uint8), Loss())
    loss.backward()
    assert loss.item() == 0
    assert (scores.grad == 0).all()
