"""What a user reads who made a mistake: file, line or key, and remedy, before anything runs."""

import subprocess

import pytest

from stedm.config.templates import configfiles


def stopped(study) -> list[str]:
    """Lines that Snakemake prints when it refuses to start."""
    answer: subprocess.CompletedProcess[str] = study.snakemake("--configfile", "study.yaml", "--dry-run")
    assert answer.returncode == 1
    assert "Traceback" not in answer.stderr
    return [line for line in answer.stderr.splitlines() if not line.startswith("Using profile")]


def test_every_wrong_key_is_named_at_once(study):
    study.change("patches.siz", 32)
    study.change("segmentation.training.steps", 0)
    lines = stopped(study)
    assert len(lines) == 2
    assert "study.yaml, patches.siz: there is no such key; did you mean 'size'?" in lines
    assert [line for line in lines if line.startswith("study.yaml, segmentation.training.steps:")]


def test_a_missing_slide_file_is_named_with_its_line(study):
    (study.path / "U1.png").unlink()
    (line,) = stopped(study)
    assert line.startswith("slides.csv, line 4 (slide 'U1'): path: there is no file U1.png")


def test_names_spelt_in_two_ways_raise_a_question(study):
    rows = study.rows
    rows[0]["patient"], rows[1]["patient"] = "anna", "Anna"
    study.write(study.config, rows)
    plan = study.snakemake("--configfile", "study.yaml", "--dry-run", "--quiet", "all")
    assert plan.returncode == 0
    assert "slides.csv: 'Anna' and 'anna' count as 2 different patients; if they are the same" in plan.stderr


def test_a_patient_in_two_splits_is_named_with_both_lines(study):
    rows = study.rows
    rows[5]["patient"] = "A1"
    study.write(study.config, rows)
    (line,) = stopped(study)
    assert line.startswith("slides.csv, line 7: patient 'A1' has split 'test', but 'annotated' on line 2")


def test_slides_of_a_demo_are_named_after_their_row(study):
    study.change("phantoms", {})
    rows = [row | {"path": f"new/{row['path']}", "annotation": f"new/{row['slide']}.geojson"} for row in study.rows]
    rows[2]["path"] = "elsewhere/other.tiff"
    study.write(study.config, rows)
    (line,) = stopped(study)
    assert line.startswith("slides.sheet, column path: ")


def test_values_given_on_the_command_line_are_checked_too(study):
    answer = study.snakemake("--configfile", "study.yaml", "--config", "seed=never", "--dry-run")
    assert answer.returncode == 1
    assert "seed: " in answer.stderr


@pytest.mark.parametrize("key", ["__use_yte__", '"\\x5f_use_yte__"'])
@pytest.mark.parametrize("profile", ["local", "slurm"])
def test_python_in_a_study_file_is_not_run(study, key, profile):
    path = study.path / "study.yaml"
    path.write_text(f'{key}: true\nseed: ?open("run", "w").write("")\n' + path.read_text())
    answer = study.snakemake("--configfile", "study.yaml", "--dry-run", profile=profile)
    assert answer.returncode == 1
    assert "study.yaml: is a template (__use_yte__), whose Python Snakemake would run; take the key" in answer.stderr
    assert "Traceback" not in answer.stderr
    assert not (study.path / "run").exists()


def test_python_in_the_default_study_is_not_run(study):
    text = (study.path / "study.yaml").read_text()
    (study.path / "config.yaml").write_text(f'__use_yte__: true\nseed: ?open("run", "w").write("")\n{text}')
    answer = study.snakemake("--dry-run")
    assert answer.returncode == 1
    assert "config.yaml: is a template" in answer.stderr
    assert not (study.path / "run").exists()


@pytest.mark.parametrize(
    "words",
    [["--configfile", "a", "b"], ["--configfiles=a", "b"], ["-n", "--configf", "a", "b", "--cores", "2"]],
)
def test_all_study_files_of_a_command_line_are_looked_at(words):
    assert list(map(str, configfiles(["snakemake", "target", *words, "--", "c"]))) == ["a", "b"]


def test_masks_and_coordinates_that_are_missing_are_all_named(study):
    (study.path / "masks").mkdir()
    for row in study.rows[1:]:
        (study.path / f"masks/{row['slide']}.png").touch()
    (study.path / "masks/A2.geojson").touch()
    study.change("patches.tissue", {"masks": "masks"})
    lines = stopped(study)
    assert lines == [
        "patches.tissue.masks, slide 'A1': there is no file masks/A1.png (or ending in .tif, .tiff, .geojson, .json)",
        "patches.tissue.masks, slide 'A2': masks/A2.png and masks/A2.geojson both exist; keep one of them",
    ]


def test_splits_that_are_impossible_stop_before_any_slide_is_opened(study):
    study.change("splits.annotated_patients", [5])
    (line,) = stopped(study)
    assert line.startswith("study.yaml, splits.annotated_patients: 5 requested, but slides.csv has only 2")


def test_what_failed_is_said_last_and_the_checks_table_is_kept(study):
    failing = 'echo "slide,problem" > results/tiny/check.csv; echo "slide: wrong; correct it"; exit 2'
    stub = (study.path / "stedm").read_text()
    (study.path / "stedm").write_text(stub.replace("command=", f'[ "$1" = check ] && {{ {failing}; }}\ncommand=', 1))
    answer = study.snakemake("results/tiny/check.csv", "--configfile", "study.yaml")
    assert answer.returncode == 1
    head, _, tail = answer.stderr.partition("What failed:\n")
    assert tail.startswith("check:\n  slide: wrong; correct it\nLog: results/tiny/logs/check.log\n")
    assert "slide: wrong" not in head
    assert "--options" not in tail
    assert (study.path / "results/tiny/logs/check.csv").read_text() == "slide,problem\n"
    assert not (study.path / "results/tiny/check.csv").exists()
