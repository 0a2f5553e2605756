"""Intervals over patients: known answers, and coverage in a seeded simulation."""

import numpy as np
import pytest
from scipy import stats

from stedm.evaluation.intervals import (
    Spread,
    clustered_mean_interval,
    deviation_difference_interval,
    deviation_interval,
    mean_interval,
    pooled_spread,
    share_interval,
    spread,
)

PATIENTS = 10
SAMPLES = 500


def pairs(rng, patients=PATIENTS):
    """Scores of two arms that correlate by 0.9 and are as skewed as Dice is: (patients, 2), each of a beta
    distribution."""
    normal = rng.multivariate_normal([0, 0], [[1, 0.9], [0.9, 1]], patients)
    return stats.beta.ppf(stats.norm.cdf(normal), [9, 5], 1)


DEVIATIONS = stats.beta.std([9, 5], 1)
MEANS = stats.beta.mean([9, 5], 1)


@pytest.mark.parametrize(
    ("interval", "truth"),
    [
        (lambda scores, seed: mean_interval(scores[:, :1], 300, seed, limits=(0, 1)), MEANS[0]),
        (lambda scores, seed: mean_interval(scores[:, :1] - scores[:, 1:], 300, seed), MEANS[0] - MEANS[1]),
        (lambda scores, seed: deviation_interval(scores[:, 1]), DEVIATIONS[1]),
        (lambda scores, seed: deviation_difference_interval(*scores.T), DEVIATIONS[0] - DEVIATIONS[1]),
    ],
    ids=["mean", "difference", "deviation", "difference of deviations"],
)
def test_intervals_of_ten_skewed_patients_cover_the_truth_as_often_as_they_say(interval, truth):
    rng = np.random.default_rng(0)
    found = [interval(pairs(rng), seed) for seed in range(SAMPLES)]
    assert 0.92 <= np.mean([low <= truth <= high for _, low, high in found]) <= 0.985


def test_intervals_of_clustered_shares_and_means_cover_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(0)
    shares, means = [], []
    for seed in range(SAMPLES):
        counts = rng.integers(4, 40, PATIENTS)
        hits = rng.binomial(counts, rng.beta(9, 1, PATIENTS))
        shares.append(share_interval(hits, counts))
        sums = counts * rng.beta(9, 2, PATIENTS) + np.sqrt(counts) * rng.normal(0, 0.1, PATIENTS)
        means.append(clustered_mean_interval(sums, counts, 300, seed))
    for found, truth in ((shares, 0.9), (means, 9 / 11)):
        assert 0.92 <= np.mean([low <= truth <= high for _, low, high in found]) <= 0.985


def test_with_many_normal_values_intervals_are_the_textbooks():
    rng = np.random.default_rng(0)
    values, others = rng.normal(0.5, 0.1, (2, 2000))
    value, low, high = mean_interval(values[:, None], 1000, 0)
    assert value == pytest.approx(values.mean())
    expected = stats.ttest_1samp(values, 0).confidence_interval()
    assert (low, high) == pytest.approx(expected, abs=5e-4)
    value, low, high = deviation_interval(values)
    assert value == pytest.approx(values.std(ddof=1))
    quantiles = stats.chi2.ppf([0.975, 0.025], 1999)
    assert (low, high) == pytest.approx(value * np.sqrt(1999 / quantiles), rel=4e-3)
    value, low, high = deviation_difference_interval(values, others)
    assert value == pytest.approx(values.std(ddof=1) - others.std(ddof=1))
    half = 1.96 * np.sqrt((values.var() + others.var()) / 2 / 2000)  # of two independent normal deviations
    assert (low, high) == pytest.approx((value - half, value + half), abs=5e-4)


def test_of_few_patients_means_have_students_interval_and_deviations_none():
    values = np.array([0.5, 0.7, 0.9, 0.8])
    expected = stats.ttest_1samp(values, 0).confidence_interval()
    assert mean_interval(values[:, None], 100, 0)[1:] == pytest.approx(expected)
    assert mean_interval(values[:, None], 100, 0, limits=(0, 1))[2] == pytest.approx(min(1, expected.high))
    assert np.isnan(deviation_interval(values)[1:]).all()
    assert np.isnan(deviation_difference_interval(values, values[::-1])[1:]).all()


def test_more_patients_are_resampled_and_the_interval_follows_their_skewness():
    values = np.array([0.3, 0.8, 0.85, 0.9, 0.92, 0.93, 0.95, 0.96])
    value, low, high = mean_interval(values[:, None], 2000, 1)
    students = stats.ttest_1samp(values, 0).confidence_interval()
    assert low < students.low - 0.03 and high == pytest.approx(students.high)
    assert mean_interval(values[:, None], 2000, 1) == (value, low, high)


@pytest.mark.parametrize("crossed", [True, False], ids=["all tested on all", "each tested on patients of its own"])
def test_intervals_of_means_hold_for_other_trainings_too(crossed):
    """Thirty patients, and three trainings that differ by a third of what the patients do."""
    rng = np.random.default_rng(0)
    found, over_patients = [], []
    for seed in range(SAMPLES):
        scores = 0.8 + rng.normal(0, 0.1, (30, 1)) + rng.normal(0, 0.03, 3) + rng.normal(0, 0.05, (30, 3))
        if not crossed:
            scores[np.arange(3) != np.arange(30)[:, None] % 3] = np.nan
        found.append(mean_interval(scores, 200, seed))
        over_patients.append(mean_interval(np.nanmean(scores, 1, keepdims=True), 200, seed))
    covered, without = (np.mean([low <= 0.8 <= high for _, low, high in some]) for some in (found, over_patients))
    assert 0.92 <= covered <= 0.985
    assert without < 0.91


def test_two_trainings_of_seven_arms_tell_how_far_a_difference_varies():
    """Pooled over arms, the interval covers; alone, one degree of freedom covers with three times the width."""
    rng = np.random.default_rng(0)
    pooled, alone = [], []
    for seed in range(SAMPLES):
        trained = rng.normal(0, 0.02, (7, 1, 2)) + rng.normal(0, 0.02, 2)
        scores = rng.normal(0, 0.1, (40, 1)) + trained + rng.normal(0, 0.04, (7, 40, 2))
        difference = scores[1] - scores[0]
        pooled.append(mean_interval(difference, 100, seed, pooled=pooled_spread(list(scores))))
        alone.append(mean_interval(difference, 100, seed))
    assert 0.92 <= np.mean([low <= 0 <= high for _, low, high in pooled]) <= 0.985
    widths = [np.mean([high - low for _, low, high in some]) for some in (pooled, alone)]
    assert widths[0] < widths[1] / 2


def test_the_pooled_spread_is_that_of_an_analysis_of_variance():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(4, 30, 3))
    means = scores.mean(1)
    interaction = means - means.mean(0) - means.mean(1, keepdims=True) + means.mean()
    found = pooled_spread(list(scores))
    assert found.freedom == 6
    assert found.variance == pytest.approx(2 * (interaction**2).sum() / 6)
    assert found.observed == pytest.approx(found.variance)
    assert pooled_spread([scores[0]]) is None
    assert pooled_spread([some[:, :1] for some in scores]) is None


def test_what_patients_of_their_own_add_is_not_taken_for_the_trainings():
    rng = np.random.default_rng(0)
    own = np.arange(30)[:, None] % 3 == np.arange(3)
    trained = np.array([0, 0, 1.5])
    found = [spread(np.where(own, rng.normal(size=(30, 1)) + trained, np.nan)) for _ in range(2000)]
    variance, observed, _ = np.mean(found, axis=0)
    assert variance == pytest.approx(0.75, abs=0.03)
    assert observed == pytest.approx(0.75 + 1 / 10, abs=0.03)


def test_trainings_that_agree_leave_the_interval_as_it_is():
    values = np.random.default_rng(0).normal(0.8, 0.1, (12, 1))
    assert mean_interval(np.hstack([values, values, values]), 300, 0) == pytest.approx(mean_interval(values, 300, 0))


@pytest.mark.parametrize("count", [0, 1, 3, 8])
def test_where_nothing_can_be_told_there_is_no_interval(count):
    values = np.full(count, 0.7)
    results = [
        mean_interval(values[:, None], 100, 0),
        deviation_interval(values),
        deviation_difference_interval(values, values),
    ]
    for result in results:
        assert np.isnan(result[1:]).all()
    assert results[0].value == pytest.approx(0.7) if count else np.isnan(results[0].value)


def test_one_value_in_each_cluster_is_no_cluster():
    values = np.random.default_rng(0).normal(size=12)
    assert clustered_mean_interval(values, np.ones(12), 500, 3) == mean_interval(values[:, None], 500, 3)


def test_shares_have_wilsons_interval_and_count_patients_where_all_are_alike():
    hits = np.repeat([0.0, 1.0], [300, 700])  # independent values: each a cluster
    expected = stats.binomtest(700, 1000).proportion_ci(method="wilson")
    assert share_interval(hits, np.ones(1000))[1:] == pytest.approx((expected.low, expected.high), abs=5e-4)
    value, low, high = share_interval(np.full(8, 20.0), np.full(8, 20.0))
    t = stats.t.ppf(0.975, 7)
    assert (value, high) == (1, 1) and low == pytest.approx(8 / (8 + t**2))
    assert np.isnan(share_interval(np.array([5.0]), np.array([5.0]))[1:]).all()


def test_a_pair_that_varies_less_than_the_others_has_an_interval_all_the_same():
    """Patients of its own for each training: the pooled mean square is large, the variance that it leaves is none."""
    rng = np.random.default_rng(0)
    scores = np.full((21, 3), np.nan)
    for training in range(3):
        scores[7 * training : 7 * training + 7, training] = rng.normal(0.03, 0.02, 7)
    found = mean_interval(scores, 500, 0, (-1, 1), Spread(variance=0.0, observed=0.003, freedom=14))
    assert -0.02 < found.low < found.value < found.high < 0.08
