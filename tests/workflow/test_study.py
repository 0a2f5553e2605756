"""The real thing, small: drawn slides through every stage, with the commands that a user types."""

import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml
from matplotlib.text import Text
from PIL import Image

from stedm.cli import COMMANDS, main
from stedm.config import IGNORE_INDEX
from stedm.shards import Shard
from stedm.slides import overview
from stedm.tables import IMAGE_QUALITY, MANIFEST

pytestmark = pytest.mark.slow  # two minutes: some forty processes, most of which import torch

NAME = re.compile(r"(Person|Slide)-[AUT]\d")
ROLES = {"A1": "annotated", "A2": "annotated", "U1": "unannotated", "U2": "unannotated", "T1": "test", "T2": "test"}
STUDY = """
study: small
slides: {sheet: slides.csv, root: drawn}
phantoms: {size: 512}
classes:
  - {name: stroma, color: "#e8a0bf", annotations: [Stroma]}
  - {name: tumour, color: "#6a3d9a", annotations: [Tumor]}
annotations: {fill: stroma}
patches: {size: 32, mpp: 1.0}
splits: {source: sheet, annotated_patients: [2]}
first_stage: {kind: none, unshuffle: 2}
generators:
  styled:
    preset: demo
    unet: {channels: [16, 32], attention: [false, true]}
    training: {steps: 4, batch_size: 4}
    sampling: {steps: 2}
sources:
  recolour: {kind: recolour}
  labels: {kind: pseudo_labels, arm: real, confidence: 0.5}
synthesis: {images: 12, shards: 2}
segmentation:
  encoder: tu-resnet18
  encoder_depth: 3
  decoder_channels: [16, 8, 8]
  training: {steps: 3, batch_size: 4}
arms:
  real: {label: real only}
  everything: {label: real + all sources, sources: [styled, recolour, labels]}
  all: {label: all annotations, annotations: all}
evaluation: {reference_arm: real, evaluator_arm: all, bootstrap: 200}
"""


@pytest.fixture(scope="module")
def study(make_folder, tmp_path_factory):
    folder = make_folder(tmp_path_factory.mktemp("study"))
    rows = [
        {
            "slide": f"Slide-{name}",
            "patient": f"Person-{name}",
            "path": f"Slide-{name}.tiff",
            "annotation": f"Slide-{name}.geojson",
            "group": "solid",
            "split": role,
        }
        for name, role in ROLES.items()
    ]
    folder.write(yaml.safe_load(STUDY), rows)
    done = folder.snakemake("--configfile", "study.yaml", "--quiet", "rules")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "# Study small" in done.stdout  # a run ends with its answer
    return folder


def results(study):
    return study.path / "results/small"


def tables(study):
    return {path.name: path.read_bytes() for path in (results(study) / "tables").glob("*.csv")}


def test_the_table_of_arms_has_a_row_for_each_arm_and_the_columns_that_readers_expect(study):
    arms = pd.read_csv(results(study) / "tables/arms.csv").set_index("arm")
    assert set(arms.index) == {"real", "everything", "all"}
    assert {"patients", "dice_mean", "dice_sd", "dice_min", "difference", "difference_low", "difference_high"} <= set(
        arms
    )
    assert (arms["patients"] == 2).all()
    assert arms.loc["real", ["difference"]].fillna(0).item() == 0


def test_images_of_all_sources_are_labelled_and_in_unannotated_styles(study):
    for source in ("styled", "recolour", "labels"):
        folder = results(study) / f"synthesis/{source}/n2-r0"
        shards = [Shard(folder / f"shards/{shard}.h5") for shard in range(2)]
        assert [len(shard) for shard in shards] == [6, 6]
        assert all((shard.labels(index) != IGNORE_INDEX).any() for shard in shards for index in range(6))
        assert {shard.source for shard in shards} == {source}
        manifest = MANIFEST.read(folder / "manifest.csv")
        unannotated, annotated = {"Slide-U1", "Slide-U2"}, {"Slide-A1", "Slide-A2"}
        assert set(manifest["style_slide"]) == unannotated
        assert set(manifest["layout_slide"]) == (unannotated if source == "labels" else annotated)


def test_all_sources_are_evaluated(study):
    quality = IMAGE_QUALITY.read(results(study) / "tables/image_quality.csv")
    assert set(quality["source"]) == {"styled", "recolour", "labels"}


def test_every_figure_is_a_picture(study):
    figures = sorted((results(study) / "figures").glob("*.png"))
    assert {path.stem for path in figures} >= {
        "scores",
        "differences",
        "maps",
        "grid-styled",
        "examples-styled",
        "examples-recolour",
        "examples-labels",
        "closest-recolour",
        "histories",
    }
    for path in figures:
        with Image.open(path) as image:
            assert len(image.convert("RGB").getcolors(1 << 24)) > 20


def test_patients_are_named_in_tables_that_have_patients_and_nowhere_else(study):
    """Not in logs, provenance, models, latents, checkpoints or names of files; patch files say whose they are."""
    found = [
        path.relative_to(results(study))
        for path in results(study).rglob("*")
        if "Person-" in path.name or (path.is_file() and b"Person-" in path.read_bytes())
    ]
    tables = [path for path in found if path.suffix == ".csv"]
    assert all("patient" in (results(study) / path).read_text().partition("\n")[0] for path in tables)
    assert {path.parts[0] for path in found if path not in tables} == {"patches"}
    assert Path("tables/patients.csv") in tables


@pytest.fixture
def plot(study, monkeypatch, tmp_path):
    """Plots each figure and overview again, in this process; returns all texts in them."""
    texts = set()
    draw = Text.draw

    def record(self, *args, **kwargs):
        texts.add(self.get_text())
        return draw(self, *args, **kwargs)

    monkeypatch.setattr(Text, "draw", record)

    def record_overview(image, position, text, *rest, write=overview.write):
        texts.add(text)
        write(image, position, text, *rest)

    monkeypatch.setattr(overview, "write", record_overview)
    monkeypatch.chdir(study.path)

    def run(command, out, *more, **names):
        named = [text for name, value in names.items() for text in (f"--{name}", value)]
        assert main([*command, "--study", str(study.path / "study.yaml"), *named, "--out", str(out), *more]) == 0

    def plot():
        texts.clear()
        run(["figures", "pseudonyms"], results(study) / "pseudonyms.csv")
        figures = [command for command in COMMANDS if command.words[0] == "figures"]
        for command in figures:
            for source in ("styled", "recolour", "labels") if "source" in command.names else (None,):
                stem = "-".join(filter(None, [command.words[1].replace("-", "_"), source]))
                if (results(study) / f"figures/{stem}.png").exists():
                    known = {"source": source, "split": "n2-r0"}
                    run(command.words, tmp_path / f"{stem}.png", **{name: known[name] for name in command.names})
        for slide in ("Slide-A1", "Slide-T2"):
            picture = str(tmp_path / "overviews" / f"{slide}.png")
            run(["patches", "extract"], tmp_path / "patches.h5", "--overview", picture, slide=slide)
        return set(texts)

    return plot


def test_figures_show_pseudonyms(study, plot, tmp_path):
    texts = plot()
    assert not [text for text in texts if NAME.search(text)]
    assert {"P1", "P6 · solid", "style →", "patch"} <= texts
    assert texts & {"patient P5", "patient P6"}
    plotted = {path.name: path.read_bytes() for path in tmp_path.glob("*.p*")}
    assert plotted == {path.name: path.read_bytes() for path in (results(study) / "figures").glob("*.p*")}
    picture = "overviews/Slide-A1.png"
    assert (tmp_path / picture).read_bytes() == (results(study) / picture).read_bytes()


def test_figures_show_names_where_the_study_asks_for_them(study, plot):
    study.change("names", "real")
    texts = plot()
    study.change("names", "pseudonyms")
    assert {"Slide-A1", "Person-A1 · solid", "Slide-T2", "Person-U1", "Person-U2"} <= texts
    assert texts & {"patient Person-T1, slide Slide-T1", "patient Person-T2, slide Slide-T2"}
    assert not [text for text in texts if re.search(r"\bP\d", text)]


def test_a_finished_study_has_nothing_left_to_do(study):
    assert not study.jobs()


def test_the_report_is_one_file_that_has_the_answer_and_all_figures(study):
    page = (results(study) / "report.html").read_text(encoding="utf-8")
    assert "All annotations change the mean Dice of “real only” by" in page
    assert page.count("data:image/png;") == len(list((results(study) / "figures").glob("*.png")))
    assert not NAME.search(page + (results(study) / "summary.md").read_text(encoding="utf-8"))


def test_the_workflows_own_report_has_the_answer_and_no_names(study):
    done = study.snakemake("--configfile", "study.yaml", "--report", "workflow.html", "--quiet", "all")
    assert done.returncode == 0, done.stdout + done.stderr
    page = (study.path / "workflow.html").read_text(encoding="utf-8")
    assert "the answer of the study" in page
    assert not NAME.search(page)


def test_figures_plotted_again_are_the_same(study):
    folder = results(study) / "figures"
    before = {path.name: path.read_bytes() for path in folder.glob("*.*") if path.is_file()}
    shutil.rmtree(folder)
    assert all(rule.startswith("plot_") for rule in study.jobs() if rule != "write_report")
    study.run()
    assert {path.name: path.read_bytes() for path in folder.glob("*.*") if path.is_file()} == before


def test_a_lost_patch_file_is_made_again_and_nothing_is_trained_again(study):
    before = tables(study)
    (results(study) / "patches/Slide-U1.h5").unlink()
    redone = study.jobs()
    assert redone["extract_patches"] == 1
    assert "render_phantom" not in redone
    study.run()
    assert tables(study) == before
    log = (results(study) / "logs/train_generator/styled-n2-r0.log").read_text()
    assert "going on from step 4 of 4" in log  # its inputs turned out to be the same
