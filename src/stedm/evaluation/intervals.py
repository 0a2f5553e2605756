"""95% intervals over patients: for each statistic a method that covers what it says, also for few and skewed
patients.

`benchmarks/coverage.py` shows how often each covers the truth; the BCa bootstrap, which is often used, covers 54–93%
for ten patients. No method knows of a rare patient that is not in the sample.

An interval is NaN where nothing can be told: fewer than two patients (five for deviations), or all of them alike.
"""

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from scipy import stats

LEVEL = 0.95
TAILS = np.array([(1 - LEVEL) / 2, (1 + LEVEL) / 2])
FEW = 5
"""Patients below which nothing is resampled (half of the resamples of three have two equal patients or fewer) and
deviations have no interval (Bonett's is not defined)."""
NOTHING = 1e-9
"""Spread, as a share of the values' own, that is rounding."""


class Interval(NamedTuple):
    value: float
    low: float
    high: float

    def widened(self, factor: float) -> "Interval":
        return Interval(
            self.value, self.value - factor * (self.value - self.low), self.value + factor * (self.high - self.value)
        )


class Spread(NamedTuple):
    """How a mean over patients varies between trainings.

    Attributes:
        variance: due to the trainings, squared standard deviation of one training's mean.
        observed: mean square that it was estimated from: where each training is tested on patients of its own, their
            choice adds to it.
        freedom: degrees of freedom of the mean square.
    """

    variance: float
    observed: float
    freedom: float


def spread(scores: np.ndarray) -> Spread:
    """How the means of trainings vary.

    Args:
        scores: (n patients, trainings), at least two; NaN where a training is not tested on a patient.
    """
    tested = ~np.isnan(scores)
    counts, means = tested.sum(0), np.nanmean(scores, axis=0)
    shared = (tested / counts).T @ (tested / counts)  # what two trainings' means have in common, by their patients
    within = np.nansum((scores - means) ** 2) / max(1, (counts - 1).sum())
    others = shared[~np.eye(len(counts), dtype=bool)]
    observed = means.var(ddof=1)
    return Spread(observed - within * (np.diag(shared).mean() - others.mean()), observed, len(counts) - 1)


def pooled_spread(arms: Sequence[np.ndarray]) -> Spread | None:
    """How differences of two arms vary between trainings: the mean over all pairs of arms.

    Without patients of their own it is twice the mean square of arms × trainings in an analysis of variance.

    Args:
        arms: scores of each, as `spread` takes them.

    Returns:
        None where one arm or one training says nothing of it.
    """
    trainings = arms[0].shape[1]
    if len(arms) < 2 or trainings < 2:
        return None
    pairs = [spread(one - other) for one, other in combinations(arms, 2)]
    variance, observed, _ = np.mean(pairs, axis=0).tolist()
    return Spread(variance, observed, (len(arms) - 1) * (trainings - 1))


def mean_interval(
    scores: np.ndarray,
    resamples: int,
    seed: int,
    limits: tuple[float, float] = (-np.inf, np.inf),
    pooled: Spread | None = None,
) -> Interval:
    """Mean over patients of each one's mean over trainings, had other patients been tested and other networks trained.

    The interval over patients (see `clustered_mean_interval`) is widened by the variance between trainings: patients
    and trainings are random factors, as cases and readers are where several radiologists read the same images (Hillis
    2007, Stat. Med. 26:596), degrees of freedom are Satterthwaite's. Two or three trainings say little of their own
    variance: a hierarchical bootstrap of them would be too narrow, and one degree of freedom makes intervals useless.
    So, as there, the variance may be pooled; where the scores' own is larger, it counts.

    Args:
        scores: (n patients, trainings); NaN where a training is not tested on a patient. One training alone tells
            nothing of others.
        resamples: number of bootstrap resamples.
        seed: of the resampling.
        limits: smallest and largest mean that can be.
        pooled: spread between trainings of means like this one (default: of this one alone).
    """
    patients, trainings = scores.shape
    own = np.nanmean(scores, axis=1)
    interval = clustered_mean_interval(own, np.ones(patients), resamples, seed)
    if trainings > 1 and not np.isnan(interval.low):
        found = spread(scores)
        variance, observed = np.maximum(found, pooled or found)[:2] / trainings
        over_patients = own.var(ddof=1) / patients
        error = over_patients + max(0, variance)
        freedom = error**2 / (over_patients**2 / (patients - 1) + observed**2 / (pooled or found).freedom)
        freedom = max(freedom, (pooled or found).freedom)  # as Hillis's, never below those of the mean square
        factor = np.sqrt(error / over_patients) * stats.t.ppf(TAILS[1], freedom) / stats.t.ppf(TAILS[1], patients - 1)
        interval = interval.widened(max(1.0, float(factor)))
    return Interval(interval.value, *np.clip(interval[1:], *limits).tolist())


def clustered_mean_interval(
    sums: np.ndarray,
    counts: np.ndarray,
    resamples: int,
    seed: int,
    limits: tuple[float, float] = (-np.inf, np.inf),
) -> Interval:
    """Mean of values that come in clusters: studentised bootstrap over clusters, and nowhere narrower than Student's t.

    The bootstrap (Efron and Tibshirani 1993, section 12.5) follows skewness; Student's interval guards it where few
    clusters are alike.

    Args:
        sums: (n,) of the values of each cluster.
        counts: (n,) how many they are.
        resamples: number of bootstrap resamples.
        seed: of the resampling.
        limits: smallest and largest mean that can be.
    """
    n = len(sums)
    if n == 0:
        return Interval(np.nan, np.nan, np.nan)
    value, error = ratio_with_error(sums, counts)
    if not error > NOTHING * np.abs(sums / counts).max():
        return Interval(float(value), np.nan, np.nan)
    quantiles = stats.t.ppf(TAILS, n - 1)
    if n >= FEW:
        rows = np.random.default_rng(seed % 2**32).integers(n, size=(resamples, n))
        means, errors = ratio_with_error(sums[rows], counts[rows])
        varied = errors > NOTHING * error
        below, above = np.quantile((means[varied] - value) / errors[varied], TAILS)
        quantiles = np.array([min(below, quantiles[0]), max(above, quantiles[1])])
    high, low = np.clip(value - quantiles * error, *limits)
    return Interval(float(value), float(low), float(high))


def share_interval(sums: np.ndarray, counts: np.ndarray) -> Interval:
    """Share of clustered values in [0, 1], most of them 0 or 1: Wilson's interval with the effective number of values.

    That number is the one whose binomial variance is the variance between clusters (Korn and Graubard 1998; with
    Wilson's interval Franco et al. 2019); where all values are 0, or all 1, it is the number of clusters.

    Args:
        sums: (n,) of the values of each cluster.
        counts: (n,) how many they are.
    """
    n = len(sums)
    if n == 0:
        return Interval(np.nan, np.nan, np.nan)
    share, error = ratio_with_error(sums, counts)
    if n == 1 or not (error > NOTHING or share in (0, 1)):
        return Interval(float(share), np.nan, np.nan)
    effective = share * (1 - share) / error**2 if error > NOTHING else n
    t = stats.t.ppf(TAILS[1], n - 1)
    centre = (share + t**2 / (2 * effective)) / (1 + t**2 / effective)
    half = t / (1 + t**2 / effective) * np.sqrt(share * (1 - share) / effective + (t / (2 * effective)) ** 2)
    return Interval(float(share), *np.clip([centre - half, centre + half], 0, 1).tolist())


def ratio_with_error(sums: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean of all values of clusters (…, n), and its standard error by linearisation; NaN for one cluster.

    With one value in each cluster they are the mean and the textbook's standard error.
    """
    n, total = sums.shape[-1], counts.sum(-1)
    value = sums.sum(-1) / total
    residuals = sums - value[..., None] * counts
    factor = n / (n - 1) if n > 1 else np.nan
    return value, np.sqrt(factor * (residuals**2).sum(-1)) / total


def deviation_interval(values: np.ndarray) -> Interval:
    """Standard deviation of values (n,) that need not be normal (Bonett 2006, Comput. Stat. Data Anal. 50:775)."""
    n = len(values)
    if n < 2:
        return Interval(np.nan, np.nan, np.nan)
    deviation = float(np.std(values, ddof=1))
    if n < FEW or not deviation > NOTHING * np.abs(values).max():
        return Interval(deviation, np.nan, np.nan)
    z = stats.norm.ppf(TAILS[1])
    correction = n / (n - z)
    centre = stats.trim_mean(values, 1 / (2 * np.sqrt(n - 4)))
    kurtosis = n * ((values - centre) ** 4).sum() / ((values - values.mean()) ** 2).sum() ** 2
    error = correction * np.sqrt((kurtosis - (n - 3) / n) / (n - 1))  # of the logarithm of the variance
    low, high = deviation * np.sqrt(correction * np.exp([-z * error, z * error]))
    return Interval(deviation, float(low), float(high))


def deviation_difference_interval(a: np.ndarray, b: np.ndarray) -> Interval:
    """Standard deviation of a (n,) minus that of b (n,), values of the same patients.

    The intervals of the two are put together by MOVER (Zou and Donner 2008; with a correlation, Zou 2007). Two
    deviations of paired samples correlate as the squared distances from the means do, for normal values by the square
    of the values' correlation; of these two estimates the smaller is taken, which is the more careful one.
    """
    first, second = deviation_interval(a), deviation_interval(b)
    difference = first.value - second.value
    if np.isnan([*first, *second]).any():
        return Interval(difference, np.nan, np.nan)
    with np.errstate(invalid="ignore"):  # no correlation where all squared distances are equal
        squares = np.corrcoef((a - a.mean()) ** 2, (b - b.mean()) ** 2)[0, 1]
    correlation = np.nanmin([squares, np.corrcoef(a, b)[0, 1] ** 2])
    below = distance(first.value - first.low, second.high - second.value, correlation)
    above = distance(first.high - first.value, second.value - second.low, correlation)
    return Interval(difference, difference - below, difference + above)


def distance(one: float, other: float, correlation: float) -> float:
    """Length of the difference of two errors that correlate."""
    return float(np.sqrt(max(0, one**2 + other**2 - 2 * correlation * one * other)))
