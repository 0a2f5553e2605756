"""Sentences that a statistician would sign."""

import numpy as np
import pytest

from stedm.report import wording

LABELS = {"strong": "strong augmentation", "styled": "styled + strong", "all": "all annotations"}


def row(difference, low, high, p=0.5, holm=None, patients=10, arm="styled"):
    return {
        "arm": arm,
        "against": "strong",
        "patients": patients,
        "difference": difference,
        "difference_low": low,
        "difference_high": high,
        "p_value": p,
        "p_holm": p if holm is None else holm,
    }


def test_the_claim_is_a_sentence_with_its_interval_and_what_it_shows():
    assert wording.claim(row(0.0012, -0.0101, 0.0149), LABELS) == (
        "“styled + strong” instead of “strong augmentation” changed the mean Dice by +0.001 (95% interval −0.010 to"
        " +0.015): no difference shown with 10 patients."
    )
    assert "an improvement with 1 patient." in wording.claim(row(0.02, 0.01, 0.03, patients=1), LABELS)
    assert "a deterioration with 10" in wording.claim(row(-0.02, -0.03, -0.01), LABELS)
    few = wording.claim(row(0.02, np.nan, np.nan, patients=1), LABELS)
    assert "+0.020 (too few patients for an interval): no difference shown" in few
    assert "all comparisons are exploratory" in wording.claim(None, LABELS)


@pytest.mark.parametrize(
    ("difference", "low", "high", "words"),
    [
        (0.0199, 0.01, 0.08, "hardly anything to win here, though the interval does not rule it out"),
        (-0.05, -0.06, 0.01, "hardly anything to win here, whatever"),
        (0.0201, 0.01, 0.08, "about what unannotated patients can win."),
        (0.05, -0.01, 0.08, "if there is any: the interval includes zero."),
        (0.05, np.nan, np.nan, "about what unannotated patients can win."),
    ],
)
def test_headroom_says_whether_there_is_something_to_win(difference, low, high, words):
    text = wording.headroom(row(difference, low, high, arm="all"), LABELS, "strong augmentation")
    assert words in text
    assert ("annotate fewer patients" in text) == (difference < 0.02)


def test_without_an_upper_bound_the_headroom_is_unknown():
    assert "is unknown: no arm tells what all annotations would add to “strong”" in wording.headroom(None, {}, "strong")


@pytest.mark.parametrize(
    ("found", "trainings", "words"),
    [
        (row(0.02, 0.01, 0.03, p=0.01, holm=0.04), 1, None),
        (row(0.02, -0.01, 0.03, p=0.2), 1, None),
        (row(0.02, np.nan, np.nan, p=0.01), 1, None),
        (row(0.02, 0.01, 0.03, p=np.nan), 1, None),
        (row(0.02, 0.01, 0.03, p=0.035, holm=0.21), 1, "p is 0.210 once it is corrected for 6 comparisons"),
        (row(0.02, 0.01, 0.03, p=0.0625, holm=0.25, patients=5), 1, "with 5 patients no p can be below 0.062"),
        (row(0.02, 0.01, 0.03, p=0.07, holm=0.21), 1, "a few patients account for much of it"),
        (row(0.02, -0.01, 0.03, p=0.002, holm=0.01), 2, "the interval allows for others, which differ"),
        (row(0.02, -0.01, 0.03, p=0.002, holm=0.01), 1, "Most patients change the same way"),
    ],
)
def test_where_interval_and_test_disagree_it_says_why(found, trainings, words):
    text = wording.contradiction(found, LABELS, trainings, comparisons=6)
    assert text is None if words is None else words in text


@pytest.mark.parametrize(
    ("repeats", "seeds", "generators", "words"),
    [
        (3, 2, True, "other annotated patients, generators and networks: each of 3 repeats has its own"),
        (3, 1, False, "other annotated patients and networks: each of 3 repeats has its own"),
        (1, 2, True, "(2 of each arm). They take the one choice of annotated patients and the one generator"),
        (1, 2, False, "They take the one choice of annotated patients as it is."),
        (1, 1, False, "and the one network of each arm as they are"),
    ],
)
def test_it_says_what_intervals_allow_for(repeats, seeds, generators, words):
    assert words in wording.allowance(repeats, seeds, generators)


def test_numbers_have_a_minus_sign_and_no_signed_zero():
    assert [wording.signed(value) for value in (0.1, -0.1, -0.0001, 0)] == ["+0.100", "−0.100", "0.000", "0.000"]
    assert [wording.number(p) for p in (0.5, 0.0001, np.nan)] == ["0.500", "< 0.001", "–"]
