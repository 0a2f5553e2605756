"""How often the intervals that STEDM prints cover the truth, for few patients and skewed scores.

    python benchmarks/coverage.py           # a table; twenty minutes
    python benchmarks/coverage.py --json    # and its figures as one JSON object on the last line

Patients are sampled again and again from a population whose mean and standard deviation are known, and an interval that
is said to be of 95% should hold the truth in 95% of the samples. Populations of pairs of scores (an arm and another):
the fifty test patients of `patients.csv`, as if they were all there are; normal ones; and
beta-distributed ones, which are as skewed as Dice is. Populations of images in clusters: shares and means that vary
from patient to patient, with 4 to 39 images each. Patients and trainings: normal scores, and trainings that differ by a
third of what patients do. Differences of two of seven arms: trainings differ alike in all arms, or three times as much
in one of the two. In brackets, and as `bca`, the bootstrap over patients that is often used.
"""

import argparse
import json
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from stedm.evaluation.intervals import (
    clustered_mean_interval,
    deviation_difference_interval,
    deviation_interval,
    mean_interval,
    pooled_spread,
    share_interval,
)

SCORES = Path(__file__).with_name("patients.csv")
PAIRS = [("styled_stain", "stain"), ("stain", "real"), ("real", "styled_stain"), ("all_stain", "styled_stain")]
PATIENTS = (5, 10, 20, 50)
SIZE = 1_000_000
"""Members of a population that is no list of patients; its parameters are known to three digits then."""

Sampler = Callable[[np.random.Generator, int], tuple[np.ndarray, ...]]
Method = Callable[..., tuple[float, float, float]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--resamples", type=int, default=1000)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    rows = []
    for statistic, population, sample, truth, method, bca in cases(rng, options.resamples):
        for patients in PATIENTS:
            samples = [sample(rng, patients) for _ in range(options.samples)]
            found = np.array([method(*arrays) for arrays in samples])
            told = ~np.isnan(found[:, 1])
            rows.append(
                {"statistic": statistic, "population": population, "patients": patients,
                 "coverage": covered(found[told], truth), "width": np.median(found[told, 2] - found[told, 1]),
                 "none": 1 - told.mean(),
                 "bca": covered(np.array([bca(*arrays) for arrays in samples[: options.samples // 4]]), truth)}
            )  # fmt: skip
            print(f"{statistic}, {population}, {patients}: {rows[-1]['coverage']:.3f}", file=sys.stderr, flush=True)
    table = pd.DataFrame(rows)
    show(table)
    if options.json:
        print(json.dumps(table.round(4).to_dict("records")))


def cases(rng: np.random.Generator, resamples: int) -> Iterator[tuple[str, str, Sampler, float, Method, Method]]:
    """Statistic, population, how it is sampled, the statistic's true value, our interval, and the BCa bootstrap's."""
    for population, members in populations(rng).items():
        sample = sampler(members)
        a, b = members.T
        yield (
            "mean", population, sample, a.mean(),
            lambda a, b: mean_interval(a[:, None], resamples, 0, limits=(0, 1)),
            bca(resamples, lambda a, b, axis: a.mean(axis)),
        )  # fmt: skip
        yield (
            "paired difference", population, sample, (a - b).mean(),
            lambda a, b: mean_interval((a - b)[:, None], resamples, 0),
            bca(resamples, lambda a, b, axis: (a - b).mean(axis)),
        )  # fmt: skip
        yield (
            "SD", population, sample, a.std(),
            lambda a, b: deviation_interval(a), bca(resamples, lambda a, b, axis: a.std(axis, ddof=1)),
        )  # fmt: skip
        yield (
            "difference of SDs", population, sample, a.std() - b.std(), deviation_difference_interval,
            bca(resamples, lambda a, b, axis: a.std(axis, ddof=1) - b.std(axis, ddof=1)),
        )  # fmt: skip
    over_patients = bca(resamples, lambda scores, axis: scores.mean(axis))
    for trainings in (2, 3, 5):
        for crossed in (True, False):
            yield (
                "mean over trainings", f"{trainings}, {'the same patients' if crossed else 'patients of their own'}",
                training_sampler(trainings, crossed), 0.5, lambda scores: mean_interval(scores, resamples, 0),
                lambda scores: over_patients(np.nanmean(scores, axis=1)),
            )  # fmt: skip
    for trainings in (2, 3, 5):
        for crossed in (True, False):
            for wild in (False, True):
                kind = "the same patients" if crossed else "patients of their own"
                yield (
                    "difference over trainings", f"{trainings}, {kind}{', one arm varies more' if wild else ''}",
                    arms_sampler(trainings, crossed, wild), 0,
                    lambda *arms: mean_interval(arms[1] - arms[0], resamples, 0, pooled=pooled_spread(arms)),
                    lambda *arms: over_patients(np.nanmean(arms[1] - arms[0], axis=1)),
                )  # fmt: skip
    ratio = bca(resamples, lambda sums, counts, axis: sums.sum(axis) / counts.sum(axis))
    for share in (0.5, 0.9, 0.97):
        yield "clustered share", f"share {share}", clusters(share, binary=True), share, share_interval, ratio
    mean = 0.8
    yield (
        "clustered mean", f"mean {mean}", clusters(mean, binary=False), mean,
        lambda sums, counts: clustered_mean_interval(sums, counts, resamples, 0, limits=(0, 1)), ratio,
    )  # fmt: skip


def populations(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Pairs of scores, (members, 2), by name."""
    table = pd.read_csv(SCORES).pivot_table(index="patient", columns="arm", values="score")
    found = {f"{one}, {other}": table[[one, other]].to_numpy() for one, other in PAIRS}
    for correlation in (0.3, 0.9):
        normal = rng.multivariate_normal([0, 0], [[1, correlation], [correlation, 1]], SIZE)
        found[f"normal, r = {correlation}"] = 0.5 + normal * [0.08, 0.1]
        found[f"beta, r = {correlation}"] = stats.beta.ppf(stats.norm.cdf(normal), [9, 5], 1)
    return found


def sampler(members: np.ndarray) -> Sampler:
    def sample(rng: np.random.Generator, patients: int) -> tuple[np.ndarray, np.ndarray]:
        chosen = members[rng.integers(len(members), size=patients)]
        return chosen[:, 0], chosen[:, 1]

    return sample


def training_sampler(trainings: int, crossed: bool) -> Sampler:
    """Scores, patients × trainings, each training tested on all patients or on its own share of them."""

    def sample(rng: np.random.Generator, patients: int) -> tuple[np.ndarray, ...]:
        own, trained = rng.normal(0, 0.1, (patients, 1)), rng.normal(0, 0.03, trainings)
        scores = 0.5 + own + trained + rng.normal(0, 0.05, (patients, trainings))
        return (scores if crossed else of_their_own(scores),)

    return sample


def arms_sampler(trainings: int, crossed: bool, wild: bool) -> Sampler:
    """Scores of seven arms with equal means, patients × trainings each. Arms differ from patient to patient by a third
    of what patients do, and from training to training by half of that, or `wild` the second one three times as much."""

    def sample(rng: np.random.Generator, patients: int) -> tuple[np.ndarray, ...]:
        own, trained = rng.normal(0, 0.1, (patients, 1)), rng.normal(0, 0.02, trainings)
        arms = []
        for arm in range(7):
            on_patients, on_trainings = rng.normal(0, 0.03, (patients, 1)), rng.normal(0, 0.015, trainings)
            on_trainings *= 3 if wild and arm == 1 else 1
            scores = own + trained + on_patients + on_trainings + rng.normal(0, 0.02, (patients, trainings))
            arms.append(scores if crossed else of_their_own(scores))
        return tuple(arms)

    return sample


def of_their_own(scores: np.ndarray) -> np.ndarray:
    """The same scores, each training tested on its own share of the patients."""
    tested = np.arange(scores.shape[0])[:, None] % scores.shape[1] == np.arange(scores.shape[1])
    return np.where(tested, scores, np.nan)


def clusters(mean: float, binary: bool) -> Sampler:
    """Sums and counts of the images of patients, whose own means are of a beta distribution."""

    def sample(rng: np.random.Generator, patients: int) -> tuple[np.ndarray, np.ndarray]:
        counts = rng.integers(4, 40, patients)
        own = rng.beta(8 * mean, 8 * (1 - mean), patients)
        if binary:
            return rng.binomial(counts, own).astype(float), counts.astype(float)
        return counts * own + np.sqrt(counts) * rng.normal(0, 0.1, patients), counts.astype(float)

    return sample


def bca(resamples: int, statistic: Callable[..., np.ndarray]) -> Method:
    """The bias-corrected and accelerated bootstrap (Efron 1987), or percentiles where it is not defined."""

    def interval(*samples: np.ndarray) -> tuple[float, float, float]:
        for method in ("BCa", "percentile"):
            with np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore", stats.DegenerateDataWarning)
                low, high = stats.bootstrap(
                    samples, statistic, n_resamples=resamples, paired=True, vectorized=True, method=method,
                    rng=np.random.default_rng(0),
                ).confidence_interval  # fmt: skip
            if np.isfinite([low, high]).all():
                break
        return np.nan, low, high

    return interval


def covered(intervals: np.ndarray, truth: float) -> float:
    """Share of intervals (n, 3: value, low, high) that hold the truth; NaN where there are none."""
    return float(((intervals[:, 1] <= truth) & (truth <= intervals[:, 2])).mean()) if len(intervals) else np.nan


def show(table: pd.DataFrame) -> None:
    """Coverage in percent, ours and that of BCa in brackets, one row for each statistic and population."""
    text = (100 * table["coverage"]).map("{:.0f}".format) + " (" + (100 * table["bca"]).map("{:.0f}".format) + ")"
    wide = table.assign(text=text.where(table["coverage"].notna(), "–")).pivot_table(
        index=["statistic", "population"], columns="patients", values="text", aggfunc="first", sort=False
    )
    print(wide.to_string())


if __name__ == "__main__":
    main()
