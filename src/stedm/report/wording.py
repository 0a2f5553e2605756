"""Sentences about comparisons, in the words that a statistician would use.

A comparison is a row of `comparisons.csv`, `labels` are those of the arms.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

LEAST_HEADROOM = 0.02
"""Difference of mean Dice below which there is nothing to win."""
ALPHA = 0.05

Row = Mapping[Any, Any]


def headroom(row: Row | None, labels: Mapping[str, str], reference: str) -> str:
    """What all annotations add to the reference arm; None: no arm has them."""
    if row is None:
        return (
            f"How much there is to win is unknown: no arm tells what all annotations would add to {quoted(reference)}."
            " Where more patients than the annotated ones have annotations, an arm with “annotations: all” does."
        )
    text = (
        f"All annotations change the mean Dice of {quoted(labels[row['against']])} by"
        f" {with_interval(row, 'difference')}."
    )
    if row["difference"] < LEAST_HEADROOM:
        sure = "" if row["difference_high"] < LEAST_HEADROOM else ", though the interval does not rule it out"
        return (
            f"{text} That is less than {LEAST_HEADROOM:g}: there is hardly anything to win here{sure}, whatever is made"
            " of the unannotated patients. Before you compare arms, annotate fewer patients, use a pretrained encoder,"
            " train longer, or choose another target."
        )
    doubt = ", if there is any: the interval includes zero" if row["difference_low"] <= 0 else ""
    return f"{text} This headroom is about what unannotated patients can win{doubt}."


def claim(row: Row | None, labels: Mapping[str, str]) -> str:
    """The answer to what the study was made for; None: nothing was claimed."""
    if row is None:
        return (
            "No pair of arms was named before the study ran (“evaluation.claim”), so that all comparisons are"
            " exploratory."
        )
    return (
        f"{quoted(labels[row['arm']])} instead of {quoted(labels[row['against']])} changed the mean Dice by"
        f" {with_interval(row, 'difference')}: {verdict(row)} with {counted(row['patients'], 'patient')}."
    )


def spread(row: Row) -> str:
    """How the deviation between patients changed."""
    return f"The standard deviation between patients changed by {with_interval(row, 'sd_difference')}."


def verdict(row: Row, better: str = "an improvement", worse: str = "a deterioration") -> str:
    if not excludes_zero(row):
        return "no difference shown"
    return better if row["difference"] > 0 else worse


def excludes_zero(row: Row) -> bool:
    return bool(row["difference_low"] > 0 or row["difference_high"] < 0)


def contradiction(row: Row, labels: Mapping[str, str], trainings: int, comparisons: int) -> str | None:
    """Why interval and test do not agree on a comparison; None where they do.

    Args:
        row: the comparison.
        labels: of the arms.
        trainings: seeds or repeats that the interval allows for.
        comparisons: how many p-values are corrected together.
    """
    shown, p, corrected = excludes_zero(row), row["p_value"], row["p_holm"]
    if np.isnan([row["difference_low"], p]).any() or shown == (corrected <= ALPHA):
        return None
    pair = f"{quoted(labels[row['arm']])} against {quoted(labels[row['against']])}"
    smallest = 2.0 ** (1 - row["patients"])
    if not shown and trainings > 1:
        return (
            f"{pair}: p is {number(corrected)}, but the interval includes zero. The test takes the trained networks as"
            " they are; the interval allows for others, which differ."
        )
    if not shown:
        return (
            f"{pair}: p is {number(corrected)}, but the interval includes zero. Most patients change the same way, a"
            " few so differently that the mean is uncertain."
        )
    if smallest > ALPHA:
        return (
            f"{pair}: the interval excludes zero, but with {row['patients']} patients no p can be below"
            f" {number(smallest)}. Go by the interval."
        )
    if p <= ALPHA:
        return (
            f"{pair}: the interval excludes zero, but p is {number(corrected)} once it is corrected for"
            f" {comparisons} comparisons. Intervals are not: of twenty, one excludes zero by chance."
        )
    return (
        f"{pair}: the interval excludes zero, but p is {number(corrected)} ({number(p)} before correction). The test"
        " asks whether most patients change the same way, the interval how the mean changes: a few patients account"
        " for much of it."
    )


def allowance(repeats: int, seeds: int, generators: bool) -> str:
    """What intervals allow for."""
    if repeats > 1:
        also = "annotated patients, generators and networks" if generators else "annotated patients and networks"
        return f"Intervals allow for other test patients, and for other {also}: each of {repeats} repeats has its own."
    kept = "the one choice of annotated patients" + (" and the one generator of each kind" if generators else "")
    if seeds > 1:
        return (
            f"Intervals allow for other test patients and for other networks ({seeds} of each arm). They take {kept} as"
            f" {'they are' if generators else 'it is'}."
        )
    return f"Intervals allow for other test patients. They take {kept} and the one network of each arm as they are."


def quoted(text: str) -> str:
    return f"“{text}”"


def counted(count: int, what: str) -> str:
    return f"{count} {what}" + ("" if count == 1 else "s")


def signed(value: float) -> str:
    text = f"{value:+.3f}".replace("-", "−")
    return "0.000" if text[1:] == "0.000" else text


def with_interval(row: Row, name: str) -> str:
    """A signed value with its interval, if it has one."""
    value, low, high = (row[name + end] for end in ("", "_low", "_high"))
    if np.isnan(low):
        return f"{signed(value)} (too few patients for an interval)"
    return f"{signed(value)} (95% interval {signed(low)} to {signed(high)})"


def number(p: float) -> str:
    """A p-value."""
    return "–" if np.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"
