"""Arms compared by patient.

A patient's score in an arm is the mean Dice over the scored classes, from the confusion matrix summed over the
patient's slides, averaged over seeds and repeats. Patients are the sample: means, deviations, intervals and tests are
across them. Intervals are bootstrap intervals over patients (BCa, Efron 1987); p-values are of Wilcoxon's signed-rank
test on paired differences, which with n patients cannot be smaller than 2^(1-n): 0.0625 for 5, 0.0078 for 8.
"""

import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from stedm.config import Arm, Comparison, ComparisonOptions
from stedm.errors import UserError
from stedm.evaluation.metrics import dice, iou
from stedm.files import file_fingerprint, provenance, write_json, written_whole
from stedm.tables import ARMS, COMPARISONS, CONFUSION, NETWORK_RUN, PATIENTS, SCORES

LEVEL = 0.95
log = logging.getLogger(__name__)

Statistic = Callable[..., Any]


def compare_arms(options: ComparisonOptions, scores: Sequence[Path], *, out: Path) -> None:
    """Write `scores.csv`, `patients.csv`, `arms.csv` and `comparisons.csv`, with provenance.json.

    Args:
        options: reference arm, number of bootstrap resamples, the seed; arms, in the order of the tables; classes whose
            mean Dice is a patient's score.
        scores: folders of `score_slides`.
        out: folder of the tables.

    Raises:
        UserError: arms were not run on the same splits and seeds.
    """
    confusions = [folder / "confusion.csv" for folder in scores]
    table = read_scores(confusions)
    check_same_runs(table)
    patients = patient_scores(table[table["role"] == "test"], options.scored_classes)
    arms, comparison, seed = options.arms, options.evaluation, options.seed
    order = [arm for arm in arms if arm in set(patients["arm"])]
    summaries, comparisons = [], []
    for annotated, some in patients.groupby("annotated_patients"):
        wide = some.pivot_table(index="patient", columns="arm", values="score")[order]
        compared = compare_pairs(wide, comparison, seed)
        comparisons.append(compared.assign(annotated_patients=annotated))
        summaries.append(summarise(wide, compared, arms, comparison, seed).assign(annotated_patients=annotated))
    for name, kind, result in (
        ("scores", SCORES, table),
        ("patients", PATIENTS, patients),
        ("arms", ARMS, pd.concat(summaries)),
        ("comparisons", COMPARISONS, pd.concat(comparisons)),
    ):
        with written_whole(out / f"{name}.csv") as temporary:
            kind.write(result, temporary, digits=6)
    inputs = {str(path.parent): file_fingerprint(path) for path in confusions}
    write_json(out / "provenance.json", provenance(options.model_dump(mode="json"), inputs, seed))


def read_scores(confusions: Sequence[Path]) -> pd.DataFrame:
    """Dice and IoU of each class by patient: study, split, annotated_patients, repeat, arm, seed, role, patient, class,
    metric (dice|iou), value (NaN where a class is neither there nor predicted)."""
    if not confusions:
        raise UserError("there are no confusion tables to compare; run `stedm evaluation score` first")
    tables = []
    for path in confusions:
        table = CONFUSION.read(path)
        scores = patient_metrics(table)
        scores[list(NETWORK_RUN)] = table[list(NETWORK_RUN)].iloc[0].tolist()
        tables.append(scores)
    return pd.concat(tables, ignore_index=True)


def patient_metrics(confusion: pd.DataFrame) -> pd.DataFrame:
    """role, patient, class, metric, value from a confusion table; matrices are summed over a patient's slides."""
    names = list(dict.fromkeys(confusion["true"]))
    rows = []
    for (role, patient), table in confusion.groupby(["role", "patient"], sort=True):
        matrix = table.pivot_table(index="true", columns="predicted", values="pixels", aggfunc="sum")
        counts = matrix.reindex(index=names, columns=names).to_numpy()
        rows += [
            {"role": role, "patient": patient, "class": name, "metric": metric, "value": value}
            for metric, values in (("dice", dice(counts)), ("iou", iou(counts)))
            for name, value in zip(names, values, strict=True)
        ]
    return pd.DataFrame(rows)


def check_same_runs(scores: pd.DataFrame) -> None:
    """Arms are compared only where each was run on the same splits with the same seeds."""
    runs = {str(arm): set(zip(table["split"], table["seed"], strict=True)) for arm, table in scores.groupby("arm")}
    every = set().union(*runs.values())
    if problems := [
        f"arm {arm!r}: was not scored on {', '.join(f'{split} seed {seed}' for split, seed in sorted(every - run))},"
        " where other arms were; run it there too"
        for arm, run in runs.items()
        if every - run
    ]:
        raise UserError(problems)


def patient_scores(scores: pd.DataFrame, scored_classes: Sequence[str]) -> pd.DataFrame:
    """annotated_patients, arm, patient, score: mean Dice over classes, then over seeds and repeats.

    Arms are compared on the same patients: one without a score in any arm is left out of all.
    """
    chosen = scores[(scores["metric"] == "dice") & scores["class"].isin(scored_classes)]
    of_run = chosen.groupby(["annotated_patients", "arm", "split", "seed", "patient"])["value"].mean()
    of_patient = of_run.groupby(["annotated_patients", "arm", "patient"]).mean().rename("score").reset_index()
    missing = of_patient["score"].isna()
    for (annotated, patient), some in of_patient[missing].groupby(["annotated_patients", "patient"]):
        log.warning(
            "patient %s is left out of all arms with %s annotated patients: none of the scored classes is there or"
            " predicted in %s",
            patient,
            annotated,
            ", ".join(some["arm"]),
        )
    anywhere = missing.groupby([of_patient["annotated_patients"], of_patient["patient"]]).transform("any")
    return of_patient[~anywhere]


def summarise(
    wide: pd.DataFrame, comparisons: pd.DataFrame, arms: Mapping[str, Arm], options: Comparison, seed: int
) -> pd.DataFrame:
    """One row an arm: mean, deviation and worst over patients, and the difference to the reference.

    Args:
        wide: scores, patients × arms.
        comparisons: what `compare_pairs` gave.
        arms: for their labels.
        options: reference arm and number of bootstrap resamples.
        seed: of the bootstrap.
    """
    rows = []
    for arm in wide.columns:
        scores = wide[arm].dropna().to_numpy()
        row = {"arm": arm, "label": arms[arm].label, "patients": len(scores)}
        for name, statistic in (("mean", np.mean), ("sd", deviation)):
            value, low, high = interval(statistic, (scores,), options.bootstrap, seed)
            row |= {f"dice_{name}": value, f"dice_{name}_low": low, f"dice_{name}_high": high}
        rows.append(row | {"dice_min": scores.min() if len(scores) else np.nan})
    against = comparisons[comparisons["against"] == options.reference_arm]
    columns = ["arm", "difference", "difference_low", "difference_high", "p_value", "p_holm"]
    return pd.DataFrame(rows).merge(against[columns], on="arm", how="left")


def compare_pairs(wide: pd.DataFrame, options: Comparison, seed: int) -> pd.DataFrame:
    """Paired comparisons: every arm against the reference, and all other pairs (the later arm against the earlier).

    Args:
        wide: scores, patients × arms.
        options: reference arm and number of bootstrap resamples.
        seed: of the bootstrap.

    Returns:
        arm, against, family (reference|others; p-values are Holm-corrected within one), patients, difference of means
        with its interval, sd_difference (of the deviations between patients) with its interval, p_value, p_holm.
    """
    reference = options.reference_arm
    others = [arm for arm in wide.columns if arm != reference]
    pairs = [(arm, reference) for arm in others] if reference in wide.columns else []
    pairs += [(later, earlier) for earlier, later in combinations(others, 2)]
    rows = []
    for arm, against in pairs:
        a, b = wide[[arm, against]].dropna().to_numpy().T
        difference, low, high = interval(np.mean, (a - b,), options.bootstrap, seed)
        sd_difference, sd_low, sd_high = interval(
            lambda a, b, axis=-1: deviation(a, axis) - deviation(b, axis), (a, b), options.bootstrap, seed
        )
        rows.append(
            {"arm": arm, "against": against, "family": "reference" if against == reference else "others",
             "patients": len(a), "difference": difference, "difference_low": low, "difference_high": high,
             "sd_difference": sd_difference, "sd_difference_low": sd_low, "sd_difference_high": sd_high,
             "p_value": wilcoxon(a - b)}
        )  # fmt: skip
    columns = ["arm", "against", "family", "patients", "difference", "difference_low", "difference_high",
               "sd_difference", "sd_difference_low", "sd_difference_high", "p_value"]  # fmt: skip
    table = pd.DataFrame(rows, columns=columns)
    return table.assign(p_holm=table.groupby("family")["p_value"].transform(lambda values: holm(values.to_numpy())))


def deviation(values: np.ndarray, axis: int = -1) -> np.ndarray:
    """Standard deviation of a sample; NaN for fewer than two values."""
    if values.shape[axis] < 2:
        return np.full(np.delete(values.shape, axis), np.nan)[()]
    return values.std(axis=axis, ddof=1)


def interval(
    statistic: Statistic, samples: tuple[np.ndarray, ...], resamples: int, seed: int
) -> tuple[float, float, float]:
    """A statistic and its 95% bootstrap interval over patients.

    BCa where it is defined, else the percentiles (it is not where all resamples give one value, or leaving a patient
    out changes nothing).

    Args:
        statistic: of samples, along `axis`.
        samples: (n,) each; resampled together.
        resamples: number of resamples.
        seed: of the resampling.

    Returns:
        Value, low, high; the interval is NaN for fewer than two patients.
    """
    n = len(samples[0])
    if n == 0:
        return np.nan, np.nan, np.nan
    value = float(statistic(*samples, axis=-1))
    if n < 2:
        return value, np.nan, np.nan
    for method in ("BCa", "percentile"):
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore", stats.DegenerateDataWarning)
            found = stats.bootstrap(
                samples, statistic, n_resamples=resamples, confidence_level=LEVEL, paired=True, vectorized=True,
                method=method, rng=np.random.default_rng(seed % 2**32),
            ).confidence_interval  # fmt: skip
        if np.isfinite(found).all():
            break
    return value, float(found.low), float(found.high)


def wilcoxon(differences: np.ndarray) -> float:
    """Two-sided p of the signed-rank test; zeros are left out, and with fewer than two others it is NaN."""
    nonzero = differences[np.abs(differences) > 1e-12]
    return float(stats.wilcoxon(nonzero).pvalue) if len(nonzero) > 1 else np.nan


def holm(p_values: np.ndarray) -> np.ndarray:
    """p-values corrected for their number by Holm's step-down method (Holm 1979); NaN stay, and do not count."""
    corrected = np.full(len(p_values), np.nan)
    order = [index for index in np.argsort(p_values) if not np.isnan(p_values[index])]
    factors = np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(1, np.maximum.accumulate(p_values[order] * factors)) if order else []
    return corrected
