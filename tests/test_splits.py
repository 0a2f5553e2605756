"""Roles of patients: by the sheet and at random."""

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stedm.config import Roles, SplitOptions
from stedm.errors import UserError
from stedm.sheet import Slide, write_sheet
from stedm.splits import make_split, read_split, slides_of, stratified_order
from stedm.store import write_patches


@pytest.fixture
def study(tmp_path):
    """Writes sheet and patch files of (slide, patient, group, split, labelled, patches) rows; gives a function that
    makes a split of them."""

    def build(*rows):
        slides = []
        for slide, patient, group, split, labelled, patches in rows:  # labelled: a bool, or a label
            slides.append(Slide(slide, patient, Path(f"/slides/{slide}.tiff"), None, group, None, split))
            label = None if labelled is False else np.full((16, 16), int(labelled) - 1, np.uint8)
            image = np.full((16, 16, 3), 200, np.uint8)
            write_patches(
                tmp_path / "patches" / f"{slide}.h5",
                [(image, label, (16 * n, 0), 1.0) for n in range(patches)],
                16,
                ["stroma", "tumour"],
                {
                    "slide": slide,
                    "patient": patient,
                    "group": group,
                    "split": split,
                    "status": "ok" if patches else "quarantined",
                    "problem": "" if patches else "cannot be read",
                },
            )
        write_sheet(tmp_path / "slides.csv", slides)

        def make(annotated, repeat=0, seed=0, check=None, strict=False, scored_classes=(), **options):
            roles = Roles(**({"source": "sheet"} | options))
            options = SplitOptions(
                splits=roles,
                annotated_patients=annotated,
                repeat=repeat,
                strict=strict,
                scored_classes=scored_classes,
                seed=seed,
            )
            out = tmp_path / "splits" / f"n{annotated}-r{repeat}.csv"
            sheet, folder = tmp_path / "slides.csv", tmp_path / "patches"
            make_split(options, sheet, folder, out=out, check=check)
            return read_split(out)

        return make

    return build


def row(slide, split, group="a", labelled=True, patches=1, patient=None):
    return slide, patient or slide, group, split, labelled, patches


def patients(split, role):
    return set(split.loc[split["role"] == role, "patient"])


def test_roles_are_the_sheets(study):
    make = study(
        row("A1", "annotated", patient="A"),
        row("A2", "annotated", patient="A", labelled=False),
        row("B", "unannotated"),
        row("C", "unannotated", labelled=False),
        row("V", "validation"),
        row("T", "test"),
    )
    split = make(1)
    assert dict(zip(split["slide"], split["role"], strict=True)) == {
        "A1": "annotated", "A2": "annotated", "B": "unannotated", "C": "unannotated", "V": "validation", "T": "test",
    }  # fmt: skip
    assert dict(zip(split["slide"], split["labelled"], strict=True)) == {
        "A1": True, "A2": False, "B": True, "C": False, "V": True, "T": True,
    }  # fmt: skip
    assert slides_of(split, "annotated", "test") == ["A1", "A2", "T"]


def test_smaller_annotated_sets_are_inside_larger_ones_and_hold_every_group(study):
    rows = [row(f"P{n}", "annotated", "ab"[n % 2]) for n in range(8)] + [row("T", "test")]
    make = study(*rows)
    seen = set()
    for repeat in range(5):
        two, four, eight = (patients(make(number, repeat), "annotated") for number in (2, 4, 8))
        assert two < four < eight
        assert (len(two), len(four), len(eight)) == (2, 4, 8)
        for number, chosen in ((1, two), (2, four)):
            assert Counter(int(name[1]) % 2 for name in chosen) == {0: number, 1: number}
        assert patients(make(2, repeat), "unannotated") == {f"P{n}" for n in range(8)} - two
        seen.add(frozenset(two))
    assert len(seen) > 1  # each repeat is a new sample
    assert patients(make(2, 3), "annotated") == patients(make(2, 3), "annotated")


def test_patients_are_stratified_by_the_groups_of_all_their_slides(study):
    """Whose slides are of both groups are a stratum of their own, whatever the order of the slides."""
    kinds = {"x": ["benign"], "y": ["benign", "malignant"], "z": ["malignant", "benign"]}
    rows = [
        row(f"{kind}{n}-{group}", "annotated", group, patient=f"{kind}{n}")
        for kind, groups in kinds.items()
        for n in range(2 if kind != "x" else 4)
        for group in groups
    ]
    make = study(*rows, row("T", "test"))
    for repeat in range(5):
        split = make(4, repeat)
        chosen = patients(split, "annotated")
        assert Counter(name[0] == "x" for name in chosen) == {True: 2, False: 2}
        assert all(set(split.loc[split["patient"] == name, "group"]) == set(kinds[name[0]]) for name in chosen)


def test_a_slide_without_patches_is_excluded_and_logged(study, caplog):
    make = study(row("A", "annotated"), row("B", "unannotated", patches=0), row("T", "test"))
    split = make(1)
    assert slides_of(split, "excluded") == ["B"]
    assert slides_of(split, "unannotated") == []
    assert "B is left out of the split: quarantined (cannot be read)" in caplog.text


def test_a_splits_table_changes_with_the_patches_and_with_nothing_else(study, tmp_path):
    """What is made by a split is redone when Snakemake finds another table."""

    def table(patches):
        make = study(row("A", "annotated", patches=patches), row("T", "test"))
        make(1)
        return (tmp_path / "splits/n1-r0.csv").read_bytes()

    assert table(1) == table(1) != table(2)


def test_an_annotated_patient_whose_labelled_slide_broke_counts_as_unannotated(study):
    make = study(
        row("A", "annotated"),
        row("B1", "annotated", patient="B", patches=0),
        row("B2", "annotated", patient="B", labelled=False),
        row("T", "test"),
    )
    split = make(1)
    assert slides_of(split, "annotated") == ["A"]
    assert slides_of(split, "unannotated") == ["B2"]


@pytest.mark.parametrize("role", ["annotated", "test", "validation"])
def test_a_role_that_needs_annotations_is_refused_without(study, role):
    make = study(row("A", "annotated"), row("T", "test"), row("X", role, labelled=False))
    with pytest.raises(UserError, match=f"slides.csv, patient 'X': has the split {role}, but none"):
        make(1)


def test_an_empty_role_is_refused_where_the_sheet_decides(study):
    with pytest.raises(UserError, match="patient 'X': the column split is empty"):
        study(row("A", "annotated"), row("T", "test"), row("X", ""))(1)


def test_a_sheet_without_test_patients_is_refused(study):
    with pytest.raises(UserError, match="no patient with usable annotated slides has the split test; assign it"):
        study(row("A", "annotated"), row("U", "unannotated"))(1)


@pytest.mark.parametrize("rest", [[], [row("T2", "test", labelled=False, patient="T")]])
def test_test_patients_who_all_lost_their_annotations_are_named(study, rest):
    """Also where slides of theirs are left that nobody annotated, which cannot be scored."""
    make = study(row("A", "annotated"), row("B", "unannotated", patches=0), row("T", "test", patches=0), *rest)
    with pytest.raises(UserError, match=r"has the split test \(left out for lack of usable slides: T\)"):
        make(1)


def test_a_slide_that_the_check_found_broken_is_excluded_though_it_has_patches(study, tmp_path, caplog):
    make = study(row("A", "annotated"), row("001", "unannotated"), row("NA", "unannotated"), row("T", "test"))
    check = tmp_path / "check.csv"
    check.write_text(
        "slide,patient,status,problem\nA,A,ok,a note\n001,001,quarantined,cut short\nNA,NA,no tissue,\nT,T,ok,\n"
    )
    split = make(1, check=check)
    assert slides_of(split, "excluded") == ["001", "NA"]
    assert slides_of(split, "unannotated") == []
    assert "001 is left out of the split: quarantined (cut short)" in caplog.text


def test_strict_refuses_and_names_every_slide_that_would_be_left_out(study, tmp_path):
    make = study(row("A", "annotated"), row("B", "unannotated", patches=0), row("C", "unannotated"), row("T", "test"))
    check = tmp_path / "check.csv"
    check.write_text("slide,patient,status,problem\nA,A,ok,\nB,B,ok,\nC,C,no tissue,C is white\nT,T,ok,\n")
    with pytest.raises(UserError) as refused:
        make(1, check=check, strict=True)
    first, second = refused.value.messages
    assert first.startswith("slide B: quarantined (cannot be read)")
    assert second.startswith("slide C: no tissue (C is white)")
    assert not (tmp_path / "splits").exists()


def test_more_annotated_patients_than_there_are_name_the_key_and_the_lost(study):
    make = study(row("A", "annotated"), row("B", "annotated", patches=0), row("T", "test"))
    with pytest.raises(UserError, match=r"splits.annotated_patients: 2 requested.* has only 1 with .*slides: B\)"):
        make(2)


STROMA, TUMOUR = 1, 2


@pytest.mark.parametrize("source", ["sheet", "random"])
def test_a_scored_class_that_no_test_patient_has_is_refused(study, source):
    make = study(row("A", "annotated", labelled=TUMOUR), row("T", "test", labelled=STROMA))
    options = {"source": source} | ({"test_patients": 1} if source == "random" else {})
    seed = next(seed for seed in range(9) if patients(make(1, seed=seed, **options), "test") == {"T"})
    with pytest.raises(UserError, match=r"no test patient has patches with the scored class 'tumour'; annotate it"):
        make(1, seed=seed, scored_classes=["tumour"], **options)


def test_a_scored_class_that_nobody_who_could_be_annotated_has_is_refused(study):
    rows = row("A", "annotated", labelled=STROMA), row("T", "test", labelled=TUMOUR), row("V", "validation", labelled=2)
    with pytest.raises(UserError) as refused:
        study(*rows, row("U", "unannotated", labelled=TUMOUR))(1, scored_classes=["tumour", "stroma"])
    learned, tested = refused.value.messages
    assert "no patient who could be annotated has patches with the scored class 'tumour'" in learned
    assert "no test patient has patches with the scored class 'stroma'" in tested


def test_a_scored_class_that_only_other_patients_have_is_warned_of(study, caplog):
    """A sweep over few annotated patients goes on."""
    make = study(
        *(row(f"A{label}", "annotated", labelled=label) for label in (STROMA, TUMOUR)),
        *(row(f"T{label}", "test", labelled=label) for label in (STROMA, TUMOUR)),
    )
    scored = ["stroma", "tumour"]
    make(2, scored_classes=scored)
    assert not caplog.text
    lost = "tumour" if patients(make(1, scored_classes=scored), "annotated") == {"A1"} else "stroma"
    assert f"no annotated patient of this split has patches with the scored class {lost!r}" in caplog.text
    assert caplog.text.count("cannot be learned") == 1


def test_a_missing_patch_file_is_named(study, tmp_path):
    make = study(row("A", "annotated"), row("T", "test"))
    (tmp_path / "patches" / "T.h5").unlink()
    with pytest.raises(UserError, match=r"T\.h5: there is no such file; run `stedm patches extract`"):
        make(1)


def test_random_splits_test_every_labelled_patient_equally_often(study):
    make = study(*(row(f"P{n}", "") for n in range(5)), *(row(f"U{n}", "", labelled=False) for n in range(3)))
    tested = Counter()
    for repeat in range(5):
        split = make(2, repeat, source="random", test_patients=2, validation_patients=1)
        roles = [patients(split, role) for role in ("test", "validation", "annotated", "unannotated")]
        assert [len(role) for role in roles] == [2, 1, 2, 3]
        assert roles[3] == {"U0", "U1", "U2"}
        assert len(set.union(*roles)) == 8
        tested.update(roles[0])
        if repeat == 1:
            assert max(tested.values()) == 1  # five patients, four places: nobody twice
    assert tested == dict.fromkeys(("P0", "P1", "P2", "P3", "P4"), 2)


def test_random_splits_are_nested_and_keep_their_test_set(study):
    make = study(*(row(f"P{n}", "", "ab"[n % 2]) for n in range(8)))
    options = {"source": "random", "test_patients": 2, "validation_patients": 2}
    small, large = make(2, 1, **options), make(4, 1, **options)
    assert patients(small, "test") == patients(large, "test")
    assert patients(small, "validation") == patients(large, "validation")
    assert patients(small, "annotated") < patients(large, "annotated")
    assert {int(name[1]) % 2 for name in patients(small, "annotated")} == {0, 1}
    assert patients(make(2, 1, seed=1, **options), "test") != patients(small, "test")


def test_random_splits_refuse_more_than_the_labelled_patients(study):
    make = study(*(row(f"P{n}", "") for n in range(4)), row("U", "", labelled=False))
    with pytest.raises(UserError, match=r"splits.annotated_patients: 3 requested and 2 kept .* has only 4 "):
        make(3, source="random", test_patients=1, validation_patients=1)


def test_every_stretch_of_a_stratified_order_has_its_share_of_each_group():
    groups = pd.Series({f"P{n}": "rare" if n % 3 == 0 else "common" for n in range(12)})
    order = stratified_order(groups, 7)
    assert sorted(order) == sorted(groups.index)
    for start in range(0, 12, 3):
        assert sorted(groups[order[start : start + 3]]) == ["common", "common", "rare"]


def test_a_table_that_is_no_split_is_refused_with_its_line(tmp_path):
    path = tmp_path / "split.csv"
    path.write_text("slide,patient\nA,A\n")
    with pytest.raises(UserError, match="line 1: has no column group, role, labelled"):
        read_split(path)
    path.write_text("slide,patient,group,role,labelled\nA,A,,test,True\nB,B,,tset,True\n")
    with pytest.raises(UserError, match="line 3: role 'tset' is not one of"):
        read_split(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="cannot be read as a table"):
        read_split(path)
