"""Arms compared by patient: known answers, worked by hand or by scipy."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from stedm.config import Arm, ComparisonOptions
from stedm.errors import UserError
from stedm.evaluation.intervals import mean_interval, pooled_spread
from stedm.evaluation.statistics import compare_arms, holm, upper_bound, wilcoxon
from stedm.tables import CONFUSION

ARMS = {"real": Arm(label="Real only"), "styled": Arm(label="Real + styled"), "upper": Arm(label="All")}


def write_table(folder, arm, split, seed, rows):
    """Confusion table of (slide, patient, role, true, predicted, pixels) in the folder of a run; returns the folder."""
    annotated, repeat = split.removeprefix("n").split("-r")
    table = pd.DataFrame(rows, columns=["slide", "patient", "role", "true", "predicted", "pixels"])
    table = table.assign(
        study="demo", split=split, annotated_patients=int(annotated), repeat=int(repeat), arm=arm, seed=seed
    )
    out = folder / "evaluation" / arm / split / f"seed{seed}"
    out.mkdir(parents=True)
    CONFUSION.write(table, out / "confusion.csv")
    return out


def write_confusion(folder, arm, split, seed, patients):
    """Confusion tables in which each patient's tumour Dice is as given: 100 tumour pixels, all errors missed ones."""
    rows = []
    for slide, patient, role, hits in patients:
        counts = {("tumour", "tumour"): hits, ("tumour", "stroma"): 100 - hits, ("stroma", "stroma"): 50}
        for true in ("stroma", "tumour"):
            for predicted in ("stroma", "tumour"):
                rows.append((slide, patient, role, true, predicted, counts.get((true, predicted), 0)))
    return write_table(folder, arm, split, seed, rows)


def dice_of(hits):
    return 2 * hits / (100 + hits)


def compare(tmp_path, confusions, classes=("tumour",), arms=ARMS, claim=None):
    evaluation = {"bootstrap": 1000, "reference_arm": "real", "claim": claim}
    options = ComparisonOptions(arms=arms, evaluation=evaluation, scored_classes=list(classes), seed=0)
    compare_arms(options, confusions, out=tmp_path / "tables")
    return {path.stem: pd.read_csv(path) for path in (tmp_path / "tables").glob("*.csv")}


HITS = {
    "real": [50, 60, 70, 80, 90, 40],
    "styled": [60, 66, 72, 81, 93, 55],
    "upper": [90, 91, 92, 93, 94, 95],
}


@pytest.fixture
def tables(tmp_path):
    confusions = [
        write_confusion(tmp_path, arm, "n2-r0", 0, [(f"S{n}", f"P{n}", "test", hit) for n, hit in enumerate(hits)])
        for arm, hits in HITS.items()
    ]
    return compare(tmp_path, confusions)


def test_arms_have_mean_deviation_and_worst_patient(tables):
    arms = tables["arms"].set_index("arm")
    assert list(arms.index) == ["real", "styled", "upper"]
    for arm, hits in HITS.items():
        scores = np.array([dice_of(hit) for hit in hits])
        row = arms.loc[arm]
        assert row["patients"] == 6
        assert row["annotated_patients"] == 2
        assert row["dice_mean"] == pytest.approx(scores.mean(), rel=1e-5)
        assert row["dice_sd"] == pytest.approx(scores.std(ddof=1), rel=1e-5)
        assert row["dice_min"] == pytest.approx(scores.min(), rel=1e-5)
        assert row["dice_mean_low"] < row["dice_mean"] < row["dice_mean_high"]
        assert row["dice_sd_low"] < row["dice_sd_high"]
    assert arms.loc["styled", "label"] == "Real + styled"


def test_differences_to_the_reference_are_paired_by_patient(tables):
    arms = tables["arms"].set_index("arm")
    differences = np.array([dice_of(a) - dice_of(b) for a, b in zip(HITS["styled"], HITS["real"], strict=True)])
    row = arms.loc["styled"]
    assert row["difference"] == pytest.approx(differences.mean(), rel=1e-5)
    students = stats.ttest_1samp(differences, 0).confidence_interval()
    assert row["difference_low"] <= students.low + 1e-6 < row["difference"] < row["difference_high"]
    assert row["difference_high"] >= students.high - 1e-6
    assert row["p_value"] == pytest.approx(2 / 2**6)  # all six differences above zero: the smallest p there is
    assert row["p_holm"] == pytest.approx(2 * 2 / 2**6)  # two comparisons with the reference
    assert arms.loc["real", ["difference", "p_value", "p_holm"]].isna().all()
    found = tables["comparisons"].set_index(["arm", "against"])
    assert set(found.index) == {("styled", "real"), ("upper", "real"), ("upper", "styled")}
    assert found.loc[("upper", "styled"), "family"] == "others"
    scores = {arm: np.array([dice_of(hit) for hit in hits]) for arm, hits in HITS.items()}
    expected = scores["styled"].std(ddof=1) - scores["real"].std(ddof=1)
    assert found.loc[("styled", "real"), "sd_difference"] == pytest.approx(expected, rel=1e-4)


def test_the_headroom_comes_first_then_the_claim_and_neither_is_corrected_for_the_others(tmp_path):
    arms = ARMS | {"upper": Arm(label="All", annotations="all"), "weak": Arm(label="Weak")}
    confusions = [
        write_confusion(tmp_path, arm, "n2-r0", 0, [(f"S{n}", f"P{n}", "test", hit) for n, hit in enumerate(hits)])
        for arm, hits in (HITS | {"weak": [hit - 10 for hit in HITS["real"]]}).items()
    ]
    found = compare(tmp_path, confusions, arms=arms, claim=["styled", "real"])["comparisons"]
    assert found[["arm", "against", "family"]].to_numpy().tolist() == [
        ["upper", "real", "headroom"],
        ["styled", "real", "claim"],
        ["weak", "real", "reference"],
        ["upper", "styled", "others"],
        ["weak", "styled", "others"],
        ["weak", "upper", "others"],
    ]
    assert (found["p_holm"] == found["p_value"])[:3].all()
    assert (found["p_holm"] > found["p_value"])[3:].all()
    means = {arm: np.mean([dice_of(hit) for hit in HITS[arm]]) for arm in HITS}
    assert found.loc[0, "difference"] == pytest.approx(means["upper"] - means["real"], rel=1e-4)


def test_the_upper_bound_is_the_arm_with_all_annotations_that_is_most_like_the_reference():
    arms = {
        "strong": Arm(label="strong", augmentation="strong"),
        "all": Arm(label="all", annotations="all"),
        "all_normalised": Arm(label="a", annotations="all", augmentation="strong", application="normalise"),
        "all_strong": Arm(label="b", annotations="all", augmentation="strong"),
    }
    assert upper_bound(arms, "strong") == "all_strong"
    first = {"all_random": Arm(label="r", annotations="all", augmentation="strong", random_weights=True)}
    assert upper_bound(first | arms, "strong") == "all_strong"
    assert upper_bound(arms, "missing") is None
    assert upper_bound({"strong": arms["strong"]}, "strong") is None


def test_how_differences_vary_between_trainings_is_pooled_over_all_arms(tmp_path):
    """Both networks of `styled` are better than those of `real` by the same, but those of `upper` disagree."""
    confusions = [
        write_confusion(tmp_path, arm, "n2-r0", seed, [(f"S{n}", f"P{n}", "test", hit) for n, hit in enumerate(hits)])
        for arm, seed, hits in (
            *((arm, 0, HITS[arm]) for arm in HITS),
            ("real", 1, HITS["real"]),
            ("styled", 1, HITS["styled"]),
            ("upper", 1, [hit - 30 for hit in HITS["upper"]]),
        )
    ]
    found = compare(tmp_path, confusions)["comparisons"].set_index(["arm", "against"]).loc[("styled", "real")]
    scores = {arm: np.array([[dice_of(hit)] * 2 for hit in HITS[arm]]) for arm in HITS}
    scores["upper"][:, 1] = [dice_of(hit - 30) for hit in HITS["upper"]]
    alone = mean_interval(scores["styled"] - scores["real"], 1000, 0)
    assert found["difference_low"] < alone.low - 0.05 and found["difference_high"] > alone.high + 0.05
    between = np.array([scores[arm].mean(0) for arm in HITS])
    interaction = between - between.mean(0) - between.mean(1, keepdims=True) + between.mean()
    expected = pooled_spread(list(scores.values()))
    assert expected.variance == pytest.approx((interaction**2).sum())  # twice the sum of squares over two
    wider = mean_interval(scores["styled"] - scores["real"], 1000, 0, limits=(-1, 1), pooled=expected)
    assert found[["difference_low", "difference_high"]].tolist() == pytest.approx([*wider[1:]], rel=1e-4)


def test_a_patients_slides_are_summed_and_seeds_and_repeats_averaged(tmp_path):
    one = [("S1", "A", "test", 100), ("S2", "A", "test", 0), ("S3", "B", "test", 50)]
    two = [("S1", "A", "test", 100), ("S2", "A", "test", 100), ("S3", "B", "test", 50)]
    confusions = [
        write_confusion(tmp_path, "real", "n2-r0", 0, one),
        write_confusion(tmp_path, "real", "n2-r0", 1, two),
        write_confusion(tmp_path, "real", "n2-r1", 0, [("S4", "C", "test", 20)]),
        write_confusion(tmp_path, "real", "n2-r1", 1, [("S4", "C", "test", 40)]),
    ]
    found = compare(tmp_path, confusions)["patients"].set_index("patient")["score"]
    pooled = 2 * 100 / (200 + 100)  # 100 of 200 tumour pixels found, none wrongly: not the mean of 1 and 0
    assert found["A"] == pytest.approx((pooled + 1) / 2, rel=1e-5)
    assert found["C"] == pytest.approx((dice_of(20) + dice_of(40)) / 2, rel=1e-5)


def test_validation_patients_are_in_the_scores_but_not_in_the_arms(tmp_path):
    path = write_confusion(
        tmp_path, "real", "n2-r0", 0, [("S1", "A", "test", 50), ("S2", "B", "test", 70), ("S3", "V", "validation", 0)]
    )
    tables = compare(tmp_path, [path])
    assert set(tables["scores"]["role"]) == {"test", "validation"}
    assert tables["arms"]["patients"].tolist() == [2]
    assert tables["arms"]["dice_min"].iloc[0] == pytest.approx(dice_of(50), rel=1e-5)
    scores = tables["scores"].set_index(["patient", "class", "metric"])["value"]
    assert scores["A", "tumour", "iou"] == pytest.approx(0.5)
    assert scores["A", "stroma", "dice"] == pytest.approx(100 / (100 + 50))


def test_each_number_of_annotated_patients_is_compared_by_itself(tmp_path):
    confusions = []
    for split, shift in (("n2-r0", 0), ("n4-r0", 10)):
        for arm in ("real", "styled"):
            hits = [hit - 20 + shift * (arm == "styled") for hit in HITS[arm]]
            confusions.append(
                write_confusion(tmp_path, arm, split, 0, [(f"S{n}", f"P{n}", "test", h) for n, h in enumerate(hits)])
            )
    arms = compare(tmp_path, confusions)["arms"].set_index(["annotated_patients", "arm"])
    assert arms.loc[(4, "styled"), "difference"] > arms.loc[(2, "styled"), "difference"] > 0


def write_counts(folder, arm, counts, split="n2-r0"):
    """Confusion table of (patient, true, predicted) → pixels, with stroma, tumour and fat."""
    names = ("stroma", "tumour", "fat")
    rows = [
        (f"S{patient}", patient, "test", true, predicted, counts.get((patient, true, predicted), 0))
        for patient in dict.fromkeys(patient for patient, *_ in counts)
        for true in names
        for predicted in names
    ]
    return write_table(folder, arm, split, 0, rows)


def test_a_class_absent_from_a_patient_is_left_out_of_the_mean_in_all_arms_alike(tmp_path):
    """B has no fat: B's score is that of tumour, whether fat is predicted (styled) or not (real)."""
    own = {("A", "tumour", "tumour"): 50, ("A", "tumour", "stroma"): 50, ("A", "fat", "fat"): 100}
    own |= {("B", "tumour", "tumour"): 60, ("B", "stroma", "stroma"): 40}
    wrong = own | {("B", "stroma", "stroma"): 30, ("B", "stroma", "fat"): 10}
    confusions = [write_counts(tmp_path, arm, counts) for arm, counts in (("real", own), ("styled", wrong))]
    compare(tmp_path, confusions, classes=("tumour", "fat"))
    scores = pd.read_csv(tmp_path / "tables/patients.csv").set_index(["arm", "patient"])["score"]
    for arm in ("real", "styled"):
        assert scores[arm, "A"] == pytest.approx((dice_of(50) + 1) / 2, rel=1e-5)
        assert scores[arm, "B"] == 1
    arms = pd.read_csv(tmp_path / "tables/arms.csv").set_index("arm")
    assert arms["absent_patients"].tolist() == [1, 1]
    assert arms["absent_false_positive_rate"].tolist() == pytest.approx([0, 0.1])  # 10 of B's 100 pixels
    rates = pd.read_csv(tmp_path / "tables/scores.csv").set_index(["arm", "patient", "class", "metric"])["value"]
    assert rates["styled", "B", "fat", "false_positive_rate"] == pytest.approx(0.1)
    assert rates["styled", "A", "stroma", "false_positive_rate"] == pytest.approx(0.25)
    assert np.isnan(rates["styled", "B", "fat", "dice"])


def test_a_patient_without_any_scored_class_is_left_out_of_all_arms_and_named(tmp_path, caplog):
    """C has no tumour: nobody's Dice of C counts, and what an arm sees there is in a column of its own."""
    own = {("A", "tumour", "tumour"): 50, ("A", "tumour", "stroma"): 50, ("B", "tumour", "tumour"): 70}
    own |= {("B", "tumour", "stroma"): 30, ("C", "stroma", "stroma"): 200}
    wrong = own | {("C", "stroma", "stroma"): 150, ("C", "stroma", "tumour"): 50}
    confusions = [write_counts(tmp_path, arm, counts) for arm, counts in (("real", own), ("styled", wrong))]
    tables = compare(tmp_path, confusions)
    assert set(tables["patients"]["patient"]) == {"A", "B"}
    assert tables["arms"]["patients"].tolist() == [2, 2]
    assert tables["arms"]["dice_mean"].tolist() == pytest.approx([(dice_of(50) + dice_of(70)) / 2] * 2, rel=1e-5)
    assert tables["arms"]["absent_false_positive_rate"].tolist() == pytest.approx([0, 0.25])
    assert "left out of all arms, without any of the scored classes: patients C" in caplog.text


def test_where_no_class_is_absent_there_are_no_absent_patients(tables):
    assert (tables["arms"]["absent_patients"] == 0).all()
    assert tables["arms"]["absent_false_positive_rate"].isna().all()


def test_a_class_that_no_test_patient_has_is_named_instead_of_compared(tmp_path):
    path = write_counts(tmp_path, "real", {("A", "stroma", "tumour"): 50, ("B", "stroma", "stroma"): 70})
    with pytest.raises(UserError, match="no test patient has one of the scored classes"):
        compare(tmp_path, [path])


def test_intervals_of_means_widen_where_trainings_disagree(tmp_path):
    """Two networks of each arm. Those of `styled` agree; of `upper` one finds a quarter less in every patient."""
    confusions = [
        write_confusion(tmp_path, arm, "n2-r0", seed, [(f"S{n}", f"P{n}", "test", hit) for n, hit in enumerate(hits)])
        for arm, seed, hits in (
            ("styled", 0, HITS["styled"]),
            ("styled", 1, HITS["styled"]),
            ("upper", 0, HITS["upper"]),
            ("upper", 1, [hit - 25 for hit in HITS["upper"]]),
        )
    ]
    arms = compare(tmp_path, confusions)["arms"].set_index("arm")
    assert (arms["trainings"] == 2).all()
    scores = np.array([dice_of(hit) for hit in HITS["styled"]])
    one = mean_interval(scores[:, None], 1000, 0, limits=(0, 1))
    assert arms.loc["styled", ["dice_mean_low", "dice_mean_high"]].tolist() == pytest.approx([*one[1:]], rel=1e-5)
    trained = [np.mean([dice_of(hit - less) for hit in HITS["upper"]]) for less in (0, 25)]
    assert arms.loc["upper", "dice_mean_low"] < min(trained) and arms.loc["upper", "dice_mean_high"] == 1


def test_names_that_look_like_nothing_or_like_numbers_stay_names(tmp_path):
    path = write_confusion(
        tmp_path, "real", "n2-r0", 0, [("S1", "NA", "test", 50), ("S2", "001", "test", 70), ("S3", "None", "test", 90)]
    )
    table = path / "confusion.csv"
    table.write_text(table.read_text().replace("tumour", "null"))
    compare(tmp_path, [path], classes=("null",))
    patients = pd.read_csv(tmp_path / "tables" / "patients.csv", dtype=str, keep_default_na=False)
    assert patients["patient"].tolist() == ["001", "NA", "None"]
    assert patients["score"].astype(float).tolist() == pytest.approx([dice_of(70), dice_of(50), dice_of(90)], rel=1e-5)


def test_arms_run_on_other_splits_are_refused(tmp_path):
    patients = [("S1", "A", "test", 50)]
    confusions = [
        write_confusion(tmp_path, "real", "n2-r0", 0, patients),
        write_confusion(tmp_path, "real", "n2-r0", 1, patients),
        write_confusion(tmp_path, "styled", "n2-r0", 0, patients),
    ]
    with pytest.raises(UserError, match="arm 'styled': was not scored on n2-r0 seed 1"):
        compare(tmp_path, confusions)


def test_without_tables_there_is_nothing_to_compare(tmp_path):
    with pytest.raises(UserError, match="no confusion tables"):
        compare(tmp_path, [])


def test_holm_gives_the_textbook_answer():
    # Holm's procedure on 0.01, 0.04, 0.03, 0.005: 4·0.005, 3·0.01, 2·0.03, then the 0.06 before it
    np.testing.assert_allclose(holm(np.array([0.01, 0.04, 0.03, 0.005])), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm(np.array([0.5, np.nan, 0.9])), [1, np.nan, 1])
    assert holm(np.array([])).size == 0


def test_wilcoxon_is_scipys_without_zeros_and_nan_where_nothing_can_be_told():
    differences = np.array([0.1, 0.3, -0.05, 0.2, 0.0, 0.4])
    assert wilcoxon(differences) == stats.wilcoxon(differences[differences != 0]).pvalue == pytest.approx(0.125)
    assert np.isnan(wilcoxon(np.array([0.0, 0.0, 0.3])))
    assert np.isnan(wilcoxon(np.array([])))
