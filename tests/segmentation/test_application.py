"""How a network is applied to a slide, against other libraries and closed forms."""

import copy

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
from tiny import dataset
from torch.optim.swa_utils import update_bn

from stedm.segmentation.application import (
    batches_of,
    recoloured,
    reference_moments,
    with_statistics_of,
)
from stedm.segmentation.network import Normalisation, TrainedNetwork
from stedm.style.moments import moments_over


def tissue(low, high, seed=0):
    """Images of smooth and fine structure between two colours."""
    rng = np.random.default_rng(seed)
    shape = torch.from_numpy(rng.normal(size=(40, 1, 8, 8)))
    mixed = torch.nn.functional.interpolate(shape, size=(32, 32), mode="bicubic")[:, 0, :, :, None].numpy()
    mixed = 1 / (1 + np.exp(-mixed - 0.4 * rng.normal(size=(40, 32, 32, 1))))
    return np.rint(low + mixed * (np.array(high) - low) + rng.normal(0, 4, (40, 32, 32, 3))).clip(0, 255).astype("u1")


def test_adabn_is_what_torch_makes_of_the_images():
    torch.manual_seed(0)
    unet = smp.Unet("tu-test_resnet", encoder_weights=None, encoder_depth=3, decoder_channels=[16, 8, 8], classes=2)
    network = TrainedNetwork(unet.eval(), dataset())
    images = np.random.default_rng(0).integers(0, 256, (70, 32, 32, 3), dtype=np.uint8)
    batches = batches_of(images)
    assert [len(batch) for batch in batches] == [35, 35]
    expected, before = copy.deepcopy(unet), copy.deepcopy(unet.state_dict())
    update_bn([Normalisation().apply(torch.from_numpy(batch)) for batch in batches], expected)
    adapted = with_statistics_of(batches, network).unet
    assert not any(module.training for module in adapted.modules())
    for name, value in expected.state_dict().items():
        torch.testing.assert_close(adapted.state_dict()[name], value, msg=name)
    assert all(torch.equal(unet.state_dict()[name], value) for name, value in before.items())


def test_a_recoloured_slide_has_the_moments_of_the_reference():
    training, test = tissue((60, 40, 120), (230, 150, 210)), tissue((120, 60, 60), (250, 220, 200), 1)
    reference = moments_over(training)
    found = moments_over(recoloured(test, moments_over(test), reference))
    np.testing.assert_allclose(found.mean, reference.mean, atol=0.02)
    np.testing.assert_allclose(found.covariances[-1], reference.covariances[-1], rtol=0.15, atol=0.002)


def test_a_slide_in_the_reference_s_colours_stays_as_it_is():
    images = tissue((60, 40, 120), (230, 150, 210))
    own = moments_over(images)
    assert np.abs(recoloured(images, own, own).astype(int) - images).max() <= 1


def test_the_reference_is_the_mean_over_slides_whatever_their_size(make_slide):
    files = [make_slide("A", 3, 10), make_slide("B", 30, 110)]
    reference = reference_moments(files)
    assert reference.mean[0] == pytest.approx(60 / 127.5 - 1, abs=1e-3)
    assert reference.mean[2] == pytest.approx(50 / 127.5 - 1, abs=1e-3)  # 200 in a quarter
