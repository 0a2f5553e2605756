"""The page of a study: the answer comes first, in words, and a browser shows it."""

import re
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest
from filled import write_filled
from PIL import Image

from stedm.config import Arm, Comparison, ComparisonOptions, ReportOptions
from stedm.evaluation.statistics import compare_arms
from stedm.report.study import write_report
from stedm.tables import CHECK, CONFUSION, IMAGE_QUALITY, PSEUDONYMS, SPLIT

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
ARMS = {
    "real": Arm(label="real only"),
    "strong": Arm(label="strong augmentation", augmentation="strong"),
    "styled": Arm(label="styled + strong", augmentation="strong", sources=["styled"]),
    "all": Arm(label="all annotations", annotations="all", augmentation="strong"),
}
EFFECTS = {"real": -30, "strong": 0, "styled": 1, "all": 8}
"""Of the arms, in percent of a patient's tumour."""
TESTED = [f"T{number}" for number in range(8)]
SLIDES = {"A1": "annotated", "A2": "annotated", "U1": "unannotated", "X1": "excluded"} | dict.fromkeys(TESTED, "test")


def write_scores(folder, annotated):
    """Confusion tables of all arms, two networks each, and the split."""
    rng = np.random.default_rng(annotated)
    split = f"n{annotated}-r0"
    for arm in ARMS:
        for seed in (0, 1):
            rows = []
            for place, patient in enumerate(TESTED):
                hits = 50 + 5 * place + EFFECTS[arm] + int(rng.integers(-2, 3))
                counts = {("tumour", "tumour"): hits, ("tumour", "stroma"): 100 - hits, ("stroma", "stroma"): 50}
                counts["stroma", "tumour"] = 0
                rows += [
                    {"slide": patient, "patient": patient, "role": "test", "true": a, "predicted": b, "pixels": n}
                    for (a, b), n in counts.items()
                ]
            out = folder / f"evaluation/{arm}/{split}/seed{seed}"
            out.mkdir(parents=True)
            run = {"study": "s", "split": split, "annotated_patients": annotated, "repeat": 0, "arm": arm, "seed": seed}
            CONFUSION.write(pd.DataFrame(rows).assign(**run), out / "confusion.csv")
            yield out
    slides = [{"slide": slide, "patient": slide, "role": role, "labelled": True} for slide, role in SLIDES.items()]
    write_filled(SPLIT, slides, folder / f"{split}.csv")


@pytest.fixture
def report(tmp_path):
    """Makes the page of a study; returns its HTML and its text."""

    def make(numbers=(2,), claim=("styled", "strong"), sources=True):
        folders = [folder for number in numbers for folder in write_scores(tmp_path, number)]
        evaluation = Comparison(reference_arm="strong", claim=claim and list(claim), bootstrap=200)
        asked = {"arms": ARMS, "evaluation": evaluation, "scored_classes": ["tumour"]}
        compare_arms(ComparisonOptions(**asked, seed=0), folders, out=tmp_path / "tables")
        status = {"X1": "quarantined"}
        checked = [{"slide": slide, "patient": slide, "status": status.get(slide, "ok")} for slide in SLIDES]
        write_filled(CHECK, [row | {"problem": f"of {row['slide']}"} for row in checked], tmp_path / "check.csv")
        names = [
            {"slide": slide, "patient": slide, "slide_pseudonym": f"P{place}", "patient_pseudonym": f"P{place}"}
            for place, slide in enumerate(SLIDES, 1)
        ]
        PSEUDONYMS.write(pd.DataFrame(names), tmp_path / "pseudonyms.csv")
        quality = [
            {"source": "styled", "annotated_patients": 2, "metric": metric, "images_of": images, "value": value}
            | {"low": value - 0.1, "high": value + 0.1, "deviation": np.nan, "images": 40, "features": ""}
            for metric, images, value in (
                ("layout_iou", "generated", 0.46),
                ("layout_iou", "real", 0.72),
                ("colour_share_nearest_is_own_patient", "generated", 0.5),
                ("layout_iou_tumour", "generated", 0.3),
            )
        ]
        IMAGE_QUALITY.write(pd.DataFrame(quality), tmp_path / "image_quality.csv")
        figures = [tmp_path / f"figures/{name}.png" for name in ("scores", "maps", "contact_sheet", "grid-styled")]
        (tmp_path / "figures").mkdir()
        for path in figures:
            Image.new("RGB", (600, 200), "#56b4e9").save(path)
        write_report(
            ReportOptions(study="small", **asked),
            tmp_path / "check.csv",
            [tmp_path / f"n{number}-r0.csv" for number in numbers],
            tmp_path / "tables",
            figures,
            out=tmp_path / "report.html",
            quality=tmp_path / "image_quality.csv" if sources else None,
            pseudonyms=tmp_path / "pseudonyms.csv",
        )
        return [(tmp_path / name).read_text(encoding="utf-8") for name in ("report.html", "summary.md")]

    return make


def order(text, *parts):
    """Each part is in the text, after the one before it."""
    for part in parts:
        before, found, text = text.partition(part)
        assert found, f"{part!r} does not follow {before[-200:]!r}"


def test_the_answer_comes_first_and_details_follow_in_the_order_of_the_study(report):
    page, text = report()
    for found in (page, text):
        order(
            found,
            "Study small",
            "cannot be read",
            "All annotations change the mean Dice of “strong augmentation” by +0.0",
            "“styled + strong” instead of “strong augmentation” changed the mean Dice by",
            "strong augmentation (reference)",
            "Intervals allow for other test patients and for other networks (2 of each arm)",
            "exploratory",
            "Where to look next",
        )
    order(page, "Where to look next", ">Slides<", ">Synthetic images<", ">All scores<", ">How to read it<")
    assert text.rstrip().endswith("Details: report.html")


def test_columns_have_words_and_directions_and_no_identifiers(report):
    page, text = report()
    for found in (page, text):
        assert "mean Dice ↑ (95% interval)" in found
        assert "worst ↑" in found
        assert not re.search(r"dice_mean|layout_iou|p_holm|annotated_patients|quarantined", found)
    assert "agreement with the layout, IoU ↑: tumour" in page
    assert "patient is nearest, share ↑, by colour" in page


def test_the_upper_bound_learns_from_all_patients(report):
    _, text = report()
    rows = {line.split("|")[1].strip(): line for line in text.splitlines() if line.startswith("| ")}
    assert "2 patients" in rows["strong augmentation (reference)"]
    assert "all patients" in next(line for line in text.splitlines() if line.startswith("| all annotations"))


def test_patients_have_pseudonyms_and_the_worst_comes_first(report):
    page, text = report()
    assert not re.search(r"\b[AUXT]\d\b", re.sub('src="data:[^"]*"', "", page) + text)
    rows = [line for line in text.splitlines() if re.match(r"\| P\d+ ", line)]
    assert [re.findall(r"P\d+", row)[0] for row in rows] == ["P4", "P5", "P6", "P7", "P8", "P9"]  # P4 is left out


def test_several_numbers_of_annotated_patients_have_an_answer_each(report):
    page, text = report(numbers=(1, 2))
    for number in ("1 annotated patient", "2 annotated patients"):
        order(text, f"### With {number}\n", "All annotations change", "instead of", "| training")
    assert page.count('<p class="strong">') == 2
    assert "| patients in any split |" in text


def test_without_claim_or_images_it_says_so_or_leaves_them_out(report):
    page, text = report(claim=None, sources=False)
    assert "No pair of arms was named before the study ran" in text
    assert "Synthetic images" not in page
    assert "generator" not in text


@pytest.mark.skipif(BROWSER is None, reason="there is no Chromium on this machine")
def test_a_browser_shows_the_table_of_arms_and_nothing_is_wider_than_a_phone(report, tmp_path):
    report()
    page = tmp_path / "report.html"
    measure = "<script>document.title = document.documentElement.scrollWidth + ' of ' + window.innerWidth</script>"
    page.write_text(page.read_text(encoding="utf-8").replace("</body>", measure + "</body>"), encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--window-size=500,900", f"--user-data-dir={tmp_path}"]
    call = [str(BROWSER), *flags, "--dump-dom", page.as_uri()]
    found = subprocess.run(call, capture_output=True, text=True, timeout=120, check=True).stdout
    needed, there = map(int, re.search(r"<title>(\d+) of (\d+)</title>", found).groups())
    assert needed <= there
    table = next(part for part in re.findall(r"<table>.*?</table>", found, re.S) if "mean Dice" in part)
    assert table.count("<tr>") == 1 + len(ARMS)
    assert all(arm.label in table for arm in ARMS.values())
