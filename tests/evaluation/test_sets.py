"""FID, KID, precision and recall against closed forms, torchmetrics and a count by hand."""

import numpy as np
import pytest
import torch
from torch import nn
from torchmetrics.image.fid import FrechetInceptionDistance

from stedm.evaluation.sets import COLUMNS, compare_sets, distances, matched


class Identity(nn.Identity):
    num_features = 4


def samples(count, mean, deviation):
    """(count, 4) whose moments are exactly those of N(mean, deviation² I)."""
    drawn = np.random.default_rng(0).normal(size=(count, 4))
    drawn -= drawn.mean(0)
    whitened = drawn @ np.linalg.inv(np.linalg.cholesky(np.cov(drawn.T))).T
    return mean + deviation * whitened


def test_fid_is_the_distance_of_two_gaussians():
    """|m|² + D (s - 1)² for N(0, I) and N(m, s² I) (Dowson & Landau 1982), and what torchmetrics says."""
    one, other = samples(300, 0, 1), samples(300, 3, 2)
    fid, _ = distances(one, other)["fid"]
    assert fid == pytest.approx(4 * 3**2 + 4 * (2 - 1) ** 2, rel=1e-6)
    reference = FrechetInceptionDistance(Identity())
    reference.update(torch.from_numpy(one), real=True)
    reference.update(torch.from_numpy(other), real=False)
    assert fid == pytest.approx(float(reference.compute()), rel=1e-6)


def test_kid_is_the_unbiased_mmd_of_the_cubic_kernel():
    """Bińkowski et al. 2018, eq. 4, over all pairs: what the mean over subsets estimates."""
    one, other = samples(300, 0, 1), samples(300, 0.5, 1)[::-1]
    kernel = lambda a, b: (a @ b.T / 4 + 1) ** 3  # noqa: E731
    off = ~np.eye(300, dtype=bool)
    expected = kernel(one, one)[off].mean() + kernel(other, other)[off].mean() - 2 * kernel(one, other).mean()
    value, deviation = distances(one, other)["kid"]
    assert value == pytest.approx(expected, abs=3 * deviation / 10)  # 100 subsets
    assert 0 < deviation < expected


def test_precision_and_recall_tell_what_is_missing_from_what_is_wrong():
    """Real images are at 0…9 and at 100…109; drawn ones miss the second place, or are at a third one besides."""
    line = np.column_stack([np.arange(10.0), np.zeros(10)])
    real = np.concatenate([line, line + 100])
    missing = distances(np.concatenate([line + 0.1, line + 0.2]), real)
    assert (missing["precision"][0], missing["recall"][0]) == (1, 0.5)
    wrong = distances(np.concatenate([real + 0.1, line + 500, line + 600]), real)
    assert (wrong["precision"][0], wrong["recall"][0]) == (0.5, 1)


def test_the_sets_have_equal_numbers_of_each_style_and_no_patch_twice():
    drawn = np.arange(100, 110.0)[:, None]
    known = {"S1": np.arange(7.0)[:, None], "S2": np.arange(20, 60.0)[:, None], "S3": np.arange(70, 80.0)[:, None]}
    parts = matched(drawn, ["S1"] * 5 + ["S2"] * 4 + [""], known, np.random.default_rng(0))
    assert [[len(one) for one in part] for part in parts] == [[3, 3, 3], [4, 4, 4], [0, 0, 0]]
    for (images, first, second), slide, own in zip(parts, known, (drawn[:5], drawn[5:9], drawn[:0]), strict=True):
        assert set(images.ravel()) <= set(own.ravel())
        assert set(first.ravel()) | set(second.ravel()) <= set(known[slide].ravel())
        assert not set(first.ravel()) & set(second.ravel())


def test_a_few_images_are_not_compared():
    known = {"S1": np.random.default_rng(0).normal(size=(20, 4))}
    some = np.random.default_rng(1).normal(size=(9, 4))
    assert list(compare_sets(some[:7], ["S1"] * 7, known, "segmenter", 0)) == COLUMNS
    assert compare_sets(some[:7], ["S1"] * 7, known, "segmenter", 0).empty
    assert len(compare_sets(some, ["S1"] * 9, known, "segmenter", 0)) == 8
