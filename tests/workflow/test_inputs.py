"""Inputs whose content changes, though their dates say nothing of it, and folders with odd names."""

import os
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OLD = 1.5e9


def replace(path, data, when=OLD):
    """Other content, with a date: as `cp -p`, `rsync -a` and archives restore files."""
    path.write_bytes(data)
    os.utime(path, (when, when))


def test_a_corrected_annotation_that_is_older_reruns_its_slide_and_the_scores(finished):
    replace(finished.path / "A1-mask.png", b"corrected")
    jobs = finished.jobs()
    assert jobs["extract_patches"] == jobs["check"] == 1
    assert jobs["score_slides"] == 2


@pytest.mark.parametrize(("data", "when"), [(b"another slide", OLD), (b"", OLD)], ids=["header", "time"])
def test_a_slide_that_is_older_or_has_another_header_is_cut_again(finished, data, when):
    replace(finished.path / "U1.png", data, when)
    assert finished.jobs("patches")["extract_patches"] == 1


def test_an_older_tissue_mask_of_other_content_is_noticed_and_a_touched_one_is_not(study):
    (study.path / "masks").mkdir()
    for row in study.rows:
        (study.path / f"masks/{row['slide']}.png").write_bytes(b"mask")
    study.change("patches.tissue", {"masks": "masks"})
    targets = [f"results/tiny/patches/{row['slide']}.h5" for row in study.rows]
    study.snakemake("--configfile", "study.yaml", "--quiet", "all", "--", *targets)
    replace(study.path / "masks/A1.png", b"mask")
    assert not study.jobs(*targets)
    replace(study.path / "masks/A1.png", b"MASK")
    assert study.jobs(*targets) == {"extract_patches": 1}


def test_a_study_runs_in_a_folder_and_on_files_with_odd_names(study, make_folder, tmp_path):
    """Folders of the checkout, of the study and of a slide, and the slide have spaces and quotes in their names."""
    checkout = tmp_path / "my check'out"
    checkout.mkdir()
    for name in ("workflow", "profiles", "envs"):
        shutil.copytree(ROOT / name, checkout / name)
    for name in ("Snakefile", "config.yaml"):
        shutil.copy(ROOT / name, checkout)
    place = make_folder(tmp_path / "it's my $1 (study)", checkout)
    shutil.copytree(study.path, place.path, ignore=shutil.ignore_patterns("my *", "it's *"))
    rows = place.rows
    rows[0]["path"] = "a folder/the 'first' slide; (50%).png"
    (place.path / rows[0]["path"]).parent.mkdir()
    (place.path / "A1.png").rename(place.path / rows[0]["path"])
    place.write(place.config, rows)
    place.run()
    assert (place.path / "results/tiny/figures/scores.png").exists()
    assert not place.jobs()
