"""Arms compared by patient.

A patient's score in an arm is the mean Dice over the scored classes, from the confusion matrix summed over the
patient's slides, averaged over seeds and repeats. A class that is absent from a patient's truth has no Dice and is left
out of the patient's mean, whatever an arm predicts; a patient with none of the scored classes is left out of all arms.
So all arms are compared on the same patients and classes. What they wrongly see of absent classes is reported by
itself, as a share of these patients' annotated pixels.

Patients are the sample: means, deviations, intervals (`stedm.evaluation.intervals`) and tests are across them.
Intervals of means hold for other trainings too, where there are several: repeats, each with annotated patients and
generators of its own, or else seeds. How differences vary between trainings is pooled over all pairs of arms.
Deviations and tests take the trained networks as they are. p-values are of Wilcoxon's signed-rank test on paired
differences, which with n patients cannot be smaller than 2^(1-n): 0.0625 for 5, 0.0078 for 8.

Two comparisons are named before a study runs and need no correction for their number: the headroom, which is what all
annotations would add to the reference arm, and the claim. All others are exploratory.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from stedm.config import Arm, Comparison, ComparisonOptions
from stedm.errors import UserError
from stedm.evaluation.intervals import (
    Interval,
    deviation_difference_interval,
    deviation_interval,
    mean_interval,
    pooled_spread,
)
from stedm.evaluation.metrics import dice, false_positive_rate, iou
from stedm.files import file_fingerprint, provenance, write_json, written_whole
from stedm.tables import ARMS, COMPARISONS, CONFUSION, NETWORK_RUN, PATIENTS, SCORES

METRICS = {"dice": dice, "iou": iou, "false_positive_rate": false_positive_rate}
log = logging.getLogger(__name__)


def compare_arms(options: ComparisonOptions, scores: Sequence[Path], *, out: Path) -> None:
    """Write `scores.csv`, `patients.csv`, `arms.csv` and `comparisons.csv`, with provenance.json.

    Args:
        options: reference arm, claim, number of bootstrap resamples, the seed; arms, in the order of the tables;
            classes whose mean Dice is a patient's score.
        scores: folders of `score_slides`.
        out: folder of the tables.

    Raises:
        UserError: arms were not run on the same splits and seeds, or no test patient has a scored class.
    """
    confusions = [folder / "confusion.csv" for folder in scores]
    table = read_scores(confusions)
    check_same_runs(table)
    tested = table[(table["role"] == "test") & table["class"].isin(options.scored_classes)]
    runs = run_scores(tested)
    patients = runs.groupby(["annotated_patients", "arm", "patient"])["score"].mean().reset_index()
    arms, comparison, seed = options.arms, options.evaluation, options.seed
    order = [arm for arm in arms if arm in set(patients["arm"])]
    summaries, comparisons = [], []
    for annotated, some in runs.groupby("annotated_patients"):
        training = "repeat" if len(set(some["repeat"])) > 1 else "seed"
        wide = some.pivot_table(index="patient", columns=["arm", training], values="score")[order]
        compared = compare_pairs(wide, arms, comparison, seed)
        comparisons.append(compared.assign(annotated_patients=annotated))
        summaries.append(summarise(wide, compared, arms, comparison, seed).assign(annotated_patients=annotated))
    summary = pd.concat(summaries).merge(absent_classes(tested), on=["annotated_patients", "arm"], how="left")
    for name, kind, result in (
        ("scores", SCORES, table),
        ("patients", PATIENTS, patients),
        ("arms", ARMS, summary),
        ("comparisons", COMPARISONS, pd.concat(comparisons)),
    ):
        with written_whole(out / f"{name}.csv") as temporary:
            kind.write(result, temporary, digits=6)
    inputs = {str(path.parent): file_fingerprint(path) for path in confusions}
    write_json(out / "provenance.json", provenance(options.model_dump(mode="json"), inputs, seed))


def read_scores(confusions: Sequence[Path]) -> pd.DataFrame:
    """Dice and IoU of each class by patient: study, split, annotated_patients, repeat, arm, seed, role, patient, class,
    metric (dice|iou|false_positive_rate), value (NaN for Dice and IoU of a class that is absent from the patient)."""
    if not confusions:
        raise UserError("there are no confusion tables to compare; run `stedm evaluation score` first")
    tables = []
    for path in confusions:
        table = CONFUSION.read(path)
        scores = patient_metrics(table)
        scores[list(NETWORK_RUN)] = table[list(NETWORK_RUN)].iloc[0].tolist()
        tables.append(scores)
    return pd.concat(tables).sort_values(list(NETWORK_RUN), kind="stable", ignore_index=True)


def patient_metrics(confusion: pd.DataFrame) -> pd.DataFrame:
    """role, patient, class, metric, value from a confusion table; matrices are summed over a patient's slides."""
    names = list(dict.fromkeys(confusion["true"]))
    rows = []
    for (role, patient), table in confusion.groupby(["role", "patient"], sort=True):
        matrix = table.pivot_table(index="true", columns="predicted", values="pixels", aggfunc="sum")
        counts = matrix.reindex(index=names, columns=names).to_numpy()
        rows += [
            {"role": role, "patient": patient, "class": name, "metric": metric, "value": value}
            for metric, function in METRICS.items()
            for name, value in zip(names, function(counts), strict=True)
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


def run_scores(scores: pd.DataFrame) -> pd.DataFrame:
    """annotated_patients, arm, repeat, seed, patient, score: mean Dice over the classes that the patient has.

    Args:
        scores: of the test patients and the scored classes.

    Raises:
        UserError: no patient has one of the classes.
    """
    chosen = scores[scores["metric"] == "dice"]
    groups = ["annotated_patients", "arm", "repeat", "seed", "patient"]
    runs = chosen.groupby(groups)["value"].mean().rename("score").reset_index()
    missing = runs["score"].isna()
    if missing.all():
        raise UserError(
            "no test patient has one of the scored classes, so that nothing can be compared; choose others in"
            " evaluation.classes, or test other patients"
        )
    if missing.any():
        names = ", ".join(sorted(set(runs.loc[missing, "patient"])))
        log.warning("left out of all arms, without any of the scored classes: patients %s", names)
    return runs[~missing]


def absent_classes(scores: pd.DataFrame) -> pd.DataFrame:
    """annotated_patients, arm, absent_patients, absent_false_positive_rate: where scored classes are absent.

    Args:
        scores: of the test patients and the scored classes.

    Returns:
        How many patients lack one of the classes, and the share of these patients' annotated pixels that is
        taken for it: the mean over absent classes, seeds and repeats, then over patients; NaN without such patients.
    """
    place = ["annotated_patients", "arm", "split", "seed", "patient", "class"]
    by_metric = {str(metric): table.set_index(place)["value"] for metric, table in scores.groupby("metric")}
    rates = by_metric["false_positive_rate"].where(by_metric["dice"].isna())
    of_patient = rates.groupby(["annotated_patients", "arm", "patient"]).mean()
    summary = of_patient.groupby(["annotated_patients", "arm"]).agg(["count", "mean"])
    return summary.set_axis(["absent_patients", "absent_false_positive_rate"], axis=1).reset_index()


def summarise(
    wide: pd.DataFrame, comparisons: pd.DataFrame, arms: Mapping[str, Arm], options: Comparison, seed: int
) -> pd.DataFrame:
    """One row per arm: mean, deviation and worst over patients, and the difference to the reference.

    Args:
        wide: scores, patients × (arm, training).
        comparisons: what `compare_pairs` gave.
        arms: for their labels.
        options: reference arm and number of bootstrap resamples.
        seed: of the bootstrap.
    """
    rows = []
    for arm in wide.columns.unique(0):
        scores: np.ndarray = wide[arm].to_numpy()
        own = np.nanmean(scores, axis=1)
        row = {"arm": arm, "label": arms[arm].label, "patients": len(own), "trainings": scores.shape[1]}
        row |= columns_of("dice_mean", mean_interval(scores, options.bootstrap, seed, limits=(0, 1)))
        row |= columns_of("dice_sd", deviation_interval(own))
        rows.append(row | {"dice_min": own.min()})
    against = comparisons[comparisons["against"] == options.reference_arm]
    columns = ["arm", "difference", "difference_low", "difference_high", "p_value", "p_holm"]
    return pd.DataFrame(rows).merge(against[columns], on="arm", how="left")


def columns_of(name: str, interval: Interval) -> dict[str, float]:
    """Value and interval as the tables name them."""
    return {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}


def compare_pairs(wide: pd.DataFrame, arms: Mapping[str, Arm], options: Comparison, seed: int) -> pd.DataFrame:
    """Paired comparisons of all arms.

    Args:
        wide: scores, patients × (arm, training).
        arms: what each is.
        options: reference arm, claim and number of bootstrap resamples.
        seed: of the bootstrap.

    Returns:
        arm, against, family (see `pairs_of`; p-values are Holm-corrected within one), patients, difference of means
        with its interval, sd_difference (of the deviations between patients) with its interval, p_value, p_holm.
    """
    scores: dict[str, np.ndarray] = {str(name): wide[name].to_numpy() for name in wide.columns.unique(0)}
    pooled = pooled_spread(list(scores.values()))
    rows = []
    for arm, against, family in pairs_of(scores, arms, options):
        differences = scores[arm] - scores[against]
        a, b = (np.nanmean(scores[name], axis=1) for name in (arm, against))
        mean = mean_interval(differences, options.bootstrap, seed, limits=(-1, 1), pooled=pooled)
        rows.append(
            {"arm": arm, "against": against, "family": family, "patients": len(a)}
            | columns_of("difference", mean)
            | columns_of("sd_difference", deviation_difference_interval(a, b))
            | {"p_value": wilcoxon(a - b)}
        )
    columns = ["arm", "against", "family", "patients", "difference", "difference_low", "difference_high",
               "sd_difference", "sd_difference_low", "sd_difference_high", "p_value"]  # fmt: skip
    table = pd.DataFrame(rows, columns=columns)
    return table.assign(p_holm=table.groupby("family")["p_value"].transform(lambda values: holm(values.to_numpy())))


def pairs_of(present: Iterable[str], arms: Mapping[str, Arm], options: Comparison) -> list[tuple[str, str, str]]:
    """Arm, the one it is compared to, and the family of the comparison, in the order in which they are read.

    The headroom (the upper bound against the reference) comes before any arm is compared, then the claim; then all
    other arms against the reference, and all other pairs (the later arm against the earlier).
    """
    reference = options.reference_arm
    others = [arm for arm in present if arm != reference]
    upper = upper_bound({name: arms[name] for name in present}, reference)
    named = [(upper, reference, "headroom")] if upper else []
    if options.claim and {*options.claim} <= {*present}:
        named.append((options.claim[0], options.claim[1], "claim"))
    pairs = [(arm, reference, "reference") for arm in others if reference in present]
    pairs += [(later, earlier, "others") for earlier, later in combinations(others, 2)]
    known = [{arm, against} for arm, against, _ in named]
    return named + [pair for pair in pairs if {*pair[:2]} not in known]


def upper_bound(arms: Mapping[str, Arm], reference: str) -> str | None:
    """The arm with all annotations, the most like the reference: its augmentation, application, sources and weights.

    None where there is no such arm, or no reference.
    """

    def unlike(name: str) -> tuple[bool, ...]:
        return tuple(
            getattr(arms[name], key) != getattr(arms[reference], key)
            for key in ("augmentation", "application", "sources", "random_weights")
        )

    bounds = [name for name, arm in arms.items() if arm.annotations == "all" and name != reference]
    return min(bounds, key=unlike) if bounds and reference in arms else None


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
