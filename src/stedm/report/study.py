"""What the page of a study says, from its tables and figures: the answer, then details in the order of the study."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from stedm.config import ReportOptions
from stedm.evaluation.statistics import upper_bound
from stedm.figures.names import Names
from stedm.files import written_whole
from stedm.report import wording
from stedm.report.document import Block, Heading, Picture, Table, Text, markdown, web_page
from stedm.report.tables import (
    arms_table,
    comparisons_table,
    left_out_table,
    patients_table,
    quality_table,
    roles_table,
    spelled,
)
from stedm.seals import check_unchanged
from stedm.splits import read_split
from stedm.tables import ARMS, CHECK, COMPARISONS, IMAGE_QUALITY, PATIENTS, SCORES

FIDELITY = ("layout_iou", "structure_share_nearest_is_own_patient", "moments_share_nearest_is_own_patient",
            "chance_nearest_is_own_patient")  # fmt: skip
"""Metrics that say whether images follow their layout and their style."""
WORST = 5
"""Patients who are looked at next."""


@dataclass(frozen=True)
class Tables:
    """What the page is made from."""

    check: pd.DataFrame
    splits: list[pd.DataFrame]
    arms: pd.DataFrame
    comparisons: pd.DataFrame
    patients: pd.DataFrame
    scores: pd.DataFrame
    quality: pd.DataFrame | None
    names: Names

    @property
    def labels(self) -> dict[str, str]:
        """Of the arms, in the order of the tables."""
        return {str(row["arm"]): str(row["label"]) for row in self.arms.to_dict("records")}


def write_report(
    options: ReportOptions,
    check: Path,
    splits: Sequence[Path],
    tables: Path,
    figures: Sequence[Path],
    *,
    out: Path,
    quality: Path | None = None,
    pseudonyms: Path | None = None,
) -> None:
    """Write the answer of a study as a page, and as text, `summary.md`, next to it.

    Args:
        options: the study's name, arms, reference and claim, and the scored classes.
        check: table of `stedm check`.
        splits: all splits.
        tables: folder of arms.csv, comparisons.csv, patients.csv and scores.csv.
        figures: PNG files, in the order of the page.
        out: the page, an HTML file that needs no other.
        quality: image_quality.csv; None: the study has no synthetic images.
        pseudonyms: key of `write_pseudonyms`; None: slides and patients have the names of the sheet.
    """
    kinds = {"arms": ARMS, "comparisons": COMPARISONS, "patients": PATIENTS, "scores": SCORES}
    found = Tables(
        check=CHECK.read(check),
        splits=[read_split(path) for path in splits],
        **{name: kind.read(tables / f"{name}.csv") for name, kind in kinds.items()},
        quality=None if quality is None else IMAGE_QUALITY.read(quality),
        names=Names(pseudonyms),
    )
    pictures = {path.stem: picture(path) for path in figures}
    answer = [*asked(options, found), *answered(options, found, pictures), *look_next(options, found, pictures)]
    page = [*answer, *details(found, pictures)]
    with written_whole(out) as temporary:
        temporary.write_text(web_page(f"Study {options.study}", page), encoding="utf-8")
    with written_whole(out.with_name("summary.md")) as temporary:
        temporary.write_text(markdown([*answer, Text(f"Details: {out.name}")], out.parent), encoding="utf-8")


def asked(options: ReportOptions, tables: Tables) -> list[Block]:
    """What was asked: of whom, and who is left out."""
    classes = " and ".join(wording.quoted(name) for name in options.scored_classes)
    score = "the mean Dice over these classes" if len(options.scored_classes) > 1 else "the Dice of this class"
    several = len(tables.splits) > 1
    blocks: list[Block] = [
        Heading(f"Study {options.study}", level=1),
        Text(
            f"Networks that segment {classes} were trained in {wording.counted(len(tables.labels), 'way')} and scored"
            f" on patients whom no training saw. A patient's score is {score}; patients are the unit of every mean,"
            " interval and test."
        ),
        Table(roles_table(tables.splits), f"Patients and slides by role{', in each split' if several else ''}."),
    ]
    left_out = left_out_table(tables.check, tables.splits, tables.names)
    if len(left_out):
        blocks.append(Table(left_out, "Slides that are left out; check.csv says more."))
    return blocks


def answered(options: ReportOptions, tables: Tables, pictures: Mapping[str, Picture]) -> list[Block]:
    """Headroom, claim and arms, for each number of annotated patients."""
    reference, labels = options.evaluation.reference_arm, tables.labels
    blocks: list[Block] = [Heading("The answer")]
    numbers = sorted(set(tables.arms["annotated_patients"]))
    for number in numbers:
        arms, compared = (some[some["annotated_patients"] == number] for some in (tables.arms, tables.comparisons))
        named = {row["family"]: row for row in compared.to_dict("records") if row["family"] in ("headroom", "claim")}
        if len(numbers) > 1:
            blocks.append(Heading(f"With {wording.counted(number, 'annotated patient')}", level=3))
        blocks.append(Text(wording.headroom(named.get("headroom"), labels, labels.get(reference, reference))))
        blocks.append(Text(wording.claim(named.get("claim"), labels), strong=True))
        if "claim" in named:
            blocks.append(Text(wording.spread(named["claim"])))
        blocks.append(Table(arms_table(arms, options.arms, reference), ARMS_CAPTION))
    repeats, seeds = (tables.scores[name].nunique() for name in ("repeat", "seed"))
    blocks.append(Text(wording.allowance(repeats, seeds, generators=tables.quality is not None)))
    return [*blocks, Heading("Scores and differences by patient"), *shown(pictures, "scores", "differences"),
            *differences(tables)]  # fmt: skip


def differences(tables: Tables) -> list[Block]:
    """The comparisons with the reference arm, the claim first, and what to make of tests that say otherwise."""
    rows = tables.comparisons[tables.comparisons["family"] != "others"]
    if rows.empty:
        return []
    found = [contradiction(tables, row) for row in rows.to_dict("records")]
    caption = (
        "Headroom and claim were named before the study ran. All else is exploratory, and its p-values (Wilcoxon"
        " signed-rank test) are corrected for their number by Holm's method. Shown is what the interval of the mean's"
        " change says."
    )
    return [
        Table(comparisons_table(rows, tables.labels), caption),
        *(Text(sentence) for sentence in found if sentence is not None),
    ]


def contradiction(tables: Tables, row: wording.Row) -> str | None:
    """Why interval and test do not agree on a comparison, if they do not."""
    keys = ["annotated_patients", "family"]
    same = (tables.comparisons[keys] == [row[key] for key in keys]).all(axis=1)
    return wording.contradiction(row, tables.labels, int(tables.arms["trainings"].max()), int(same.sum()))


def look_next(options: ReportOptions, tables: Tables, pictures: Mapping[str, Picture]) -> list[Block]:
    """The worst patients, and whether images follow layout and style."""
    reference = options.evaluation.reference_arm
    scores = scores_of(tables)
    upper = upper_bound(options.arms, reference)
    arms = dict.fromkeys([reference, *(options.evaluation.claim or []), *([upper] if upper else [])])
    labels = {arm: tables.labels[arm] for arm in arms if arm in scores}
    blocks: list[Block] = [Heading("Where to look next")]
    if reference in labels:
        worst = scores.sort_values(reference).head(WORST)
        fewest = wording.counted(int(tables.patients["annotated_patients"].min()), "annotated patient")
        caption = f"Dice of the patients with the lowest scores by {wording.quoted(labels[reference])}, with {fewest}."
        blocks.append(Table(patients_table(worst, labels, tables.names), caption))
    blocks += shown(pictures, "maps")
    if tables.quality is not None:
        chosen = tables.quality["metric"].isin(FIDELITY)
        if chosen.any():
            caption = (
                "Do synthetic images follow the layout and the style that they were made from? The column of real"
                " patches has what perfect images would reach. For style: of all patients, is the one whose style an"
                " image was given the nearest to it? By structure, that is asked after the colours and the spectrum of"
                " all images were made equal: it shows whether images have more of their style than recoloured patches."
            )
            blocks.append(Table(quality_table(tables.quality[chosen]), caption))
    return blocks


def details(tables: Tables, pictures: Mapping[str, Picture]) -> list[Block]:
    """All else, in the order of the study."""
    sources = [name for name in pictures if name.partition("-")[0] in ("sources", "examples", "grid", "closest")]
    blocks: list[Block] = [Heading("Slides"), *shown(pictures, "contact_sheet")]
    blocks += [Heading("Training"), *shown(pictures, "histories")]
    if tables.quality is not None:
        blocks += [Heading("Synthetic images"), *shown(pictures, *sources)]
        blocks.append(Table(quality_table(tables.quality), QUALITY))
    blocks += [Heading("All scores"), Table(patients_table(scores_of(tables), tables.labels, tables.names), "Dice.")]
    others = tables.comparisons[tables.comparisons["family"] == "others"]
    if len(others):
        blocks.append(Table(comparisons_table(others, tables.labels), "The other comparisons, all exploratory."))
    return [*blocks, Heading("How to read it"), Text(METHODS)]


def scores_of(tables: Tables) -> pd.DataFrame:
    """Patients × arms, with the smallest number of annotated patients."""
    fewest = tables.patients["annotated_patients"].min()
    return tables.patients[tables.patients["annotated_patients"] == fewest].pivot_table("score", "patient", "arm")


def shown(pictures: Mapping[str, Picture], *names: str) -> list[Block]:
    return [pictures[name] for name in names if name in pictures]


CAPTIONS = {
    "contact_sheet": (
        "All slides",
        "The outline of the tissue, the grid of patches and the annotation; slides with a problem come first. Here are"
        " 24 slides; contact_sheet.pdf has all.",
    ),
    "histories": ("Loss of each training", "By step."),
    "scores": (
        "Each patient's score",
        "One dot for each patient, a line through the dots of the same patient, and below them the mean with its 95%"
        " interval.",
    ),
    "differences": (
        "Differences from the reference, paired by patient",
        "The mean with its 95% interval, and each patient's difference as a faint dot.",
    ),
    "maps": (
        "The worst and the median patient of the reference",
        "Slide, annotation, and the predictions of the reference and of the best other arm. Areas without annotation"
        " are not scored.",
    ),
    "sources": (
        "The same layouts and styles by each source",
        "From top to bottom: real patches of the style's patient, the annotated patch, its layout, moved as the plan"
        " says, and what each source made of them. One for each of several patients, evenly spaced; none is picked by"
        " hand.",
    ),
    "examples": (
        "Images of “{source}” and what they were made from",
        "From top to bottom: layout, image, style images (if it reads a style), and the real image that the layout is"
        " from. One example for each of several patients, evenly spaced; none is picked by hand.",
    ),
    "grid": (
        "Layouts and styles of “{source}”",
        "Each layout (left) in each style (top). All images of a row start from the same noise, so that they differ in"
        " style alone. None is picked by hand.",
    ),
    "closest": (
        "Images of “{source}” that are closest to a training patch",
        "The images (top) with the cosine distance of their features, and the patches (bottom). A copy would look the"
        " same as its patch.",
    ),
}
"""Title and caption of each figure, by the first part of its name."""
ARMS_CAPTION = (
    "Mean Dice: of the patients' scores; SD: their standard deviation; worst: the lowest of them; change: of the mean"
    " Dice, against the reference. Arrows point to what is better."
)
QUALITY = (
    "Quality of the synthetic images: means over images, with 95% intervals over style patients. The column for real"
    " patches is what perfect images would reach; FID and what follows compare real patches with others there. The"
    " network that measures agreement with the layout is independent of the images. Own is the patient, or slide, whose"
    " style an image was given. Structure is what is left of style when colours and spectrum (fine to coarse) of all"
    " images were made equal, in features of a network that does not measure the layout: patches that were only"
    " recoloured are at chance or below. Recolouring puts colour and spectrum back, so that these do not tell what was"
    " learned."
)
METHODS = (
    "Dice comes from the confusion matrix summed over a patient's slides, averaged over seeds and repeats. A class that"
    " is absent from a patient does not count for the patient, whatever is predicted. Intervals of means and of"
    " differences are from a studentised bootstrap over patients, widened by the variance between trainings, which is"
    " pooled over arms for differences; those of standard deviations are Bonett's and take the trained networks as they"
    " are, as do the tests. With n patients no p is below 2 to the power of 1 − n."
)


def picture(path: Path) -> Picture:
    check_unchanged(path)
    name, _, source = path.stem.partition("-")
    title, caption = CAPTIONS[name]
    return Picture(path, title.format(source=spelled(source)), caption)
