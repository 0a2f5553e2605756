"""Pseudonyms follow the order of the sheet, and figures take them from the key alone."""

from pathlib import Path

import pytest

from stedm.errors import UserError
from stedm.figures.names import Names, write_pseudonyms
from stedm.sheet import Slide
from stedm.tables import PSEUDONYMS

SHEET = [("b1", "NA"), ("a", "001"), ("b2", "NA"), ("c", "P1")]


def key(path, sheet):
    write_pseudonyms([Slide(slide, patient, Path()) for slide, patient in sheet], out=path)
    return path


def test_patients_are_numbered_and_so_are_the_slides_of_one_who_has_several(tmp_path):
    names = Names(key(tmp_path / "key.csv", SHEET))
    assert [names.patient(patient) for _, patient in SHEET] == ["P1", "P2", "P1", "P3"]
    assert [names.slide(slide) for slide, _ in SHEET] == ["P1-1", "P2", "P1-2", "P3"]


def test_a_patient_at_the_end_of_the_sheet_changes_nobody_elses_pseudonym(tmp_path):
    before, after = (
        PSEUDONYMS.read(key(tmp_path / f"{len(sheet)}.csv", sheet)) for sheet in (SHEET, [*SHEET, ("d", "A")])
    )
    assert after.head(4).equals(before)
    assert after.iloc[4].tolist() == ["d", "A", "P4", "P4"]


def test_without_a_key_names_are_those_of_the_sheet():
    names = Names(None)
    assert (names.patient("Smith"), names.slide("Smith-2")) == ("Smith", "Smith-2")


def test_a_name_that_the_key_lacks_is_not_shown_but_refused(tmp_path):
    with pytest.raises(UserError, match=r"key\.csv: has no slide 'd'; make it with `stedm figures pseudonyms`"):
        Names(key(tmp_path / "key.csv", SHEET)).slide("d")
