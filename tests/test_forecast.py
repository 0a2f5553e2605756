"""What is known of a study before anything runs."""

import pytest
from test_config import changed

from stedm import forecast
from stedm.config import validate
from stedm.cost import Machine
from stedm.errors import UserError
from stedm.sheet import Slide

MACHINE = Machine("2 CPU cores", False, 2**34, 8e10)


def study(**values):
    return validate(changed(**values), "study.yaml")


def rows(annotated, others=0, split=""):
    return [
        Slide(f"S{n}", f"P{n}", __file__, __file__ if n < annotated else None, split=split)
        for n in range(annotated + others)
    ]


def test_possible_splits_are_counted():
    counts, problems = forecast.splits_of(study(splits__repeats=2), rows(5, 3))
    assert problems == []
    assert {name: dict(roles) for name, roles in counts.items()} == {
        f"n2-r{n}": {"unannotated": 4, "test": 2, "annotated": 2} for n in range(2)
    }


@pytest.mark.parametrize(
    ("values", "slides", "message"),
    [
        (
            {"splits__test_patients": 6},
            rows(5, 3),
            "2 requested and 6 kept for test and validation, but the sheet has only 5",
        ),
        (
            {"splits__annotated_patients": [2, 9]},
            rows(5),
            "9 requested and 2 kept for test and validation, but the sheet has only 5",
        ),
        (
            {"splits__source": "sheet"},
            rows(2, split="annotated"),
            "no patient with usable annotated slides has the split test",
        ),
        ({"splits__source": "sheet"}, rows(1), "patient 'P0': the column split is empty"),
    ],
)
def test_impossible_splits_are_said_once(values, slides, message):
    _, problems = forecast.splits_of(study(splits__repeats=3, **values), slides)
    assert len(problems) == 1
    assert message in problems[0]


@pytest.mark.parametrize(
    ("values", "messages"),
    [
        ({}, []),
        ({"segmentation__encoder": "resnet81"}, ["smp has no encoder 'resnet81'; did you mean 'resnet18'?"]),
        ({"segmentation__encoder": "tu-resnet81"}, ["timm has no model 'tu-resnet81'; did you mean 'tu-resnet18'?"]),
        ({"segmentation__encoder": "tu-resnet18", "segmentation__encoder_weights": "imagenet"}, []),
        (
            {"segmentation__encoder_weights": "imagnet"},
            ["'resnet18' has no weights 'imagnet'; did you mean 'imagenet'?"],
        ),
        ({"segmentation__encoder_weights": "/some/folder"}, []),
        ({"generators__styled__style": {"encoder": {"name": "swin_v3"}}}, ["timm has no model 'swin_v3'"]),
    ],
)
def test_encoders_that_nobody_has_are_named(values, messages):
    problems = forecast.missing_encoders(study(**values))
    assert len(problems) == len(messages)
    assert all(message in problem for message, problem in zip(messages, problems, strict=True))


@pytest.mark.parametrize("weights", ["imagenet", "hf-hub:owner/name", "/"])
def test_weights_that_may_be_there_are_not_complained_about(weights):
    assert forecast.missing_weights(study(segmentation__encoder_weights=weights)) == []


def test_a_folder_of_weights_that_is_not_there_is_named():
    (problem,) = forecast.missing_weights(study(segmentation__encoder_weights="weights/resnet18"))
    assert "there is no folder weights/resnet18; correct the path" in problem


def test_generators_of_different_budgets_are_noted():
    other = {"preset": "demo", "training": {"steps": 10}}
    assert forecast.budgets(study()) == []
    assert forecast.budgets(study(generators__other=other)) == []  # no arm has it
    arm = {"label": "other", "sources": ["other"]}
    (note,) = forecast.budgets(study(generators__other=other, arms__other=arm))
    assert "styled 16,000, other 80" in note


def test_the_summary_says_what_a_study_holds_and_costs(tmp_path):
    from PIL import Image

    Image.new("RGB", (640, 320)).save(tmp_path / "a.png")
    slides = [Slide(f"S{n}", f"P{n}", tmp_path / "a.png", tmp_path / "a.png") for n in range(60)]
    small = study(patches={"size": 64, "level": 0, "tissue": None}, generators__styled={"preset": "improved"})
    counts, _ = forecast.splits_of(small, slides)
    lines = forecast.summary(small, slides, MACHINE, counts)
    assert lines[0] == "splits n2-r0: patients 2 annotated, 56 unannotated, 2 test"
    assert any(line.startswith("about 3,000 patches") for line in lines)
    assert any("preset improved" in line and "train on a GPU" in line for line in lines)


def test_what_only_the_user_can_correct_in_slides_is_said_before_anything_runs(tmp_path):
    from PIL import Image

    Image.new("RGB", (640, 320)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:100])
    slides = [Slide(f"S{n}", f"P{n}", tmp_path / "a.png", mpp=0.5) for n in range(10)]
    broken = Slide("B", "PB", tmp_path / "b.png", mpp=0.5)  # the study can go on without it
    assert forecast.patches_of(study(), [*slides, broken])[1] == 1
    with pytest.raises(UserError, match=r"slide 'A' .*no resolution"):
        forecast.patches_of(study(), [*slides, Slide("A", "PA", tmp_path / "a.png")])


def test_jobs_are_counted_as_snakemake_has_them():
    """`snakemake -n` lists 124 for the demo, of which one is the target."""
    from pathlib import Path

    from stedm.config import load
    from stedm.sheet import read_study_sheet

    demo = load(Path(__file__).parents[1] / "config.yaml")
    jobs = forecast.jobs_of(demo, read_study_sheet(demo))
    assert sum(jobs.values()) == pytest.approx(123, rel=0.1)


def test_durations():
    assert [forecast.shown_hours(hours) for hours in (0.001, 0.5, 3.25, 240)] == [
        *("1 min", "30 min", "3.2 hours", "10 days")
    ]
