import h5py
import pytest

from stedm.training_set import by_patient, files_of


def named(files):
    return [file.slide for file in files]


@pytest.mark.parametrize(
    ("roles", "slides"),
    [((), ["A1", "A2", "U1", "U2"]), (("annotated",), ["A1", "A2"]), (("test", "annotated"), ["A1", "A2", "T1"])],
)
def test_files_are_those_of_the_slides_with_the_roles(tiny_study, roles, slides):
    assert named(files_of(tiny_study / "split.csv", tiny_study / "patches", *roles)) == slides


def test_slides_of_one_patient_come_together_in_the_order_of_names(tiny_study):
    for slide, patient in {"A1": "Z", "A2": "B", "U1": "Z"}.items():
        with h5py.File(tiny_study / f"patches/{slide}.h5", "a") as file:
            file.attrs["patient"] = patient
    patients = by_patient(files_of(tiny_study / "split.csv", tiny_study / "patches"))
    assert {patient: named(files) for patient, files in patients.items()} == {
        "B": ["A2"],
        "U2": ["U2"],
        "Z": ["A1", "U1"],
    }
    assert list(patients) == ["B", "U2", "Z"]
