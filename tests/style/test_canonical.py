"""Images of all slides recoloured to their mean."""

import numpy as np
import pytest
import torch

from stedm.images import to_images
from stedm.style.canonical import Canonical, as_lists, from_lists, prepared, sample_images
from stedm.style.moments import average, moments_of
from stedm.training_set import files_of


@pytest.fixture
def files(tiny_study):
    return files_of(tiny_study / "split.csv", tiny_study / "patches")


def slide(file):
    return np.concatenate(list(file.images()))


def test_the_mean_of_each_slide_becomes_that_of_all(files):
    canonical = Canonical(files)
    means = torch.stack([to_images(slide(file)).mean((0, 2, 3)) for file in files])
    assert means.std(0).max() > 0.05
    made = torch.stack([prepared(slide(file), file, canonical).mean((0, 2, 3)) for file in files])
    torch.testing.assert_close(made, means.mean(0).expand_as(made), atol=0.02, rtol=0)
    torch.testing.assert_close(canonical.reference.mean[0], means.mean(0), atol=0.02, rtol=0)


def test_images_of_several_slides_are_made_canonical_at_once(files):
    canonical = Canonical(files)
    some = [slide(file)[:2] for file in files[:2]]
    numbers = torch.tensor([0, 0, 1, 1])
    together = canonical(to_images(np.concatenate(some)), numbers)
    apart = torch.cat([prepared(images, file, canonical) for images, file in zip(some, files, strict=False)])
    torch.testing.assert_close(together, apart)


def test_without_canonical_images_stay_as_they_are(files):
    images = slide(files[0])[:3]
    torch.testing.assert_close(prepared(images, files[0], None), to_images(images))


def test_samples_are_of_all_slides(files):
    plain, made = sample_images(files, None), sample_images(files, Canonical(files))
    assert plain.shape == made.shape
    assert made.mean((1, 2, 3)).std() < 0.5 * plain.mean((1, 2, 3)).std()


def test_moments_survive_json():
    moments = average(moments_of(torch.randn(3, 3, 16, 16)))
    for found, expected in zip(from_lists(as_lists(moments)), moments, strict=True):
        torch.testing.assert_close(found, expected)
