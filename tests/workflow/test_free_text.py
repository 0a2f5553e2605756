"""What a user writes is text everywhere: labels, groups, names of folders and files, through a whole study."""

import csv
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import yaml

from stedm.config.base import one_line
from stedm.phantom.files import render_slide, write_geojson, write_pyramid
from stedm.phantom.style import sample_style
from stedm.tables import ARMS, PATIENTS

SCRIPT = "<script>alert('stedm')</script>"
LABELS = [
    f".. raw:: html\n\n   {SCRIPT}\n",
    f"`x <javascript:alert(1)>`_ |sub| **b \\ ``c`` </script>{SCRIPT}<img src=x onerror=alert(1)>",
    "=1+1 $\\frac{1}{0}$ {slide} {{ 7*7 }} {% raw %} $x_{ %s",
    "_-- @SUM(A1) 患者 'a\" `touch pwned` $(touch pwned); touch pwned & #x \\n \u00a0",
]
GROUP = f"=1+1 {{group}} $(touch pwned) ' \" $x_ {SCRIPT}"
FOLDER = "slides {of} $HOME 'a\" $(touch pwned); & #1 [x]*"
FILE = "{slide} $(touch pwned) = 'x' $y"
ROLES = {"A1": "annotated", "A2": "annotated", "U1": "unannotated", "U2": "unannotated", "T1": "test", "T2": "test"}
SMALL = """
study: small
slides: {sheet: slides.csv}
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
    training: {steps: 2, batch_size: 4}
    sampling: {steps: 2}
synthesis: {images: 8, shards: 1}
segmentation:
  encoder: tu-test_resnet
  encoder_depth: 3
  decoder_channels: [16, 8, 8]
  training: {steps: 2, batch_size: 4}
arms:
  real: {}
  strong: {augmentation: stain}
  styled: {sources: [styled]}
  all: {annotations: all}
evaluation: {reference_arm: real, evaluator_arm: real, bootstrap: 50}
"""


class Page(HTMLParser):
    """What a browser would run of a page, and where links lead."""

    def __init__(self, text):
        super().__init__()
        self.run, self.links, self.inside = [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.inside = tag == "script"
        self.run += [value for name, value in attrs if name.startswith("on")]
        self.links += [value for name, value in attrs if name in ("href", "src") and value]

    def handle_endtag(self, tag):
        self.inside = False

    def handle_data(self, data):
        if self.inside:
            self.run.append(data)


def write_study(folder):
    """The study with hostile texts, in a folder of its own."""
    study = yaml.safe_load(SMALL)
    for arm, label in zip(study["arms"].values(), LABELS, strict=True):
        arm["label"] = label
    (folder.path / FOLDER).mkdir()
    rows = []
    for number, (name, role) in enumerate(ROLES.items()):
        image, annotation = (f"{FOLDER}/{FILE}-{name}.{ending}" for ending in ("tiff", "geojson"))
        style = sample_style(np.random.default_rng(number), wide=False)
        pixels, tumour, region = render_slide(512, 0.5, style, "solid", np.random.default_rng(number))
        write_pyramid(folder.path / image, pixels, 0.5)
        write_geojson(folder.path / annotation, tumour, region)
        row = {"slide": name, "patient": name, "path": image, "annotation": annotation, "group": GROUP, "split": role}
        rows.append(row)
    folder.write(study, rows)


@pytest.fixture(scope="module")
def hostile_study(make_folder, tmp_path_factory):
    folder = make_folder(tmp_path_factory.mktemp("study"))
    write_study(folder)
    folder.run()
    return folder


@pytest.mark.slow
def test_a_study_of_hostile_texts_ends_and_its_report_shows_them(hostile_study):
    study = hostile_study
    done = study.snakemake("--configfile", "study.yaml", "--report", "workflow.html", "--quiet", "all")
    assert done.returncode == 0, done.stdout + done.stderr
    results = study.path / "results/small"
    pages = [results / "report.html", study.path / "workflow.html"]
    for path in pages:
        page = Page(path.read_text(encoding="utf-8"))
        assert not [text for text in page.run if text.strip().startswith("alert(")], path
        assert not [link for link in page.links if link.startswith("javascript:")], path
    assert "&lt;script&gt;alert(" in pages[0].read_text(encoding="utf-8")  # as text
    assert not list(study.path.rglob("pwned"))
    assert ARMS.read(results / "tables/arms.csv")["label"].tolist() == [one_line(label) for label in LABELS]
    for path in results.rglob("*.csv"):
        with path.open(newline="", encoding="utf-8") as file:
            fields = [field for row in csv.reader(file) for field in row]
        formulas = [field for field in fields if re.match(r"[=+@\t\r]|-(?!\d|nan|inf)", field)]
        assert not formulas, path
    assert set(PATIENTS.read(results / "tables/patients.csv")["patient"]) == {"T1", "T2"}


def test_no_text_can_end_the_script_that_the_report_has_it_in(study):
    """The study's stages are played by a stub; what the report shows of its jobs is what Snakemake keeps of them."""
    config = study.config
    for arm, label in zip(config["arms"].values(), LABELS[:2], strict=False):
        arm["label"] = label
    study.write(config, [row | {"group": GROUP} for row in study.rows])
    plan = study.snakemake("--configfile", "study.yaml", "--dry-run", "--printshellcmds")
    assert plan.returncode == 0, plan.stdout + plan.stderr
    assert r"\u003cscript>alert" in plan.stdout
    assert "<script" not in plan.stdout


@pytest.mark.slow
def test_nothing_of_it_is_done_again(hostile_study):
    assert not hostile_study.jobs()
