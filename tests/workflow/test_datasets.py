"""The studies of published data sets, on small folders in their layout."""

from pathlib import Path

import layouts
import pytest
import yaml

from stedm import cli

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", ["catch", "camelyon16", "bcss", "monuseg", "qupath", "flowers102"])
def test_a_study_runs_on_the_sheet_that_its_command_makes(make_folder, tmp_path, monkeypatch, name):
    monkeypatch.setenv("STEDM_REAL_DATA", str(tmp_path))
    folder = getattr(layouts, name)(tmp_path / name)
    sheet = folder / "slides.csv"
    assert cli.main(["sheet", name, "--folder", str(folder), "--out", str(sheet)]) == 0
    study = make_folder(tmp_path)
    study.write(yaml.safe_load((ROOT / f"workflow/studies/{name}.yaml").read_text(encoding="utf-8")))
    study.change("splits.annotated_patients", [1])  # of the few that there are
    if study.config["splits"]["source"] == "random":
        study.change("splits.test_patients", 1)
    jobs = study.jobs()
    assert jobs["extract_patches"] == len(sheet.read_text().splitlines()) - 1
    assert jobs["train_generator"] and jobs["train_segmentation"] and jobs["compare_arms"]
