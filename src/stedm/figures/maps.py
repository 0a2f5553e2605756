"""Test slides with their annotation and the maps that networks predict."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from PIL import Image

from stedm.config import IGNORE_INDEX, MapsOptions, PatchesOptions
from stedm.errors import UserError
from stedm.evaluation.statistics import patient_metrics
from stedm.figures.names import Names
from stedm.figures.style import MM, WIDTH, class_legend, coloured, figure, show, wrapped
from stedm.seals import check_unchanged
from stedm.sheet import Slide, slides_by_name
from stedm.slides import open_slide
from stedm.slides.annotations import read_annotation
from stedm.tables import CONFUSION, PATIENTS, SCORES

LONGEST = 700
"""Maximum side of an image in pixels."""


def plot_maps(
    options: MapsOptions,
    sheet: Path,
    tables: Path,
    evaluation: Path,
    *,
    out: Path,
    pseudonyms: Path | None = None,
) -> None:
    """Plot the reference arm's worst and median patient: slide, annotation, the maps of that arm and of the best other.

    Of several numbers of annotated patients, the smallest is shown.

    Args:
        options: the arms and which is the reference, the classes, and how annotations and slides are read.
        sheet: sheet that `write_sheet` wrote.
        tables: folder of `scores.csv` and `patients.csv`.
        evaluation: folder of {arm}/{split}/seed{seed}/ with confusion.csv and maps.
        out: PNG file; a PDF is written next to it.
        pseudonyms: key of `write_pseudonyms`; None: slides and patients have the names of the sheet.

    Raises:
        UserError: the tables lack the reference arm, or an evaluation the map of a patient.
    """
    patients, runs = PATIENTS.read(tables / "patients.csv"), SCORES.read(tables / "scores.csv")
    fewest = patients["annotated_patients"].min()
    scores = patients[patients["annotated_patients"] == fewest].pivot_table("score", "patient", "arm")
    runs = runs[runs["annotated_patients"] == fewest]
    reference = options.evaluation.reference_arm
    if reference not in scores:
        raise UserError(
            f"{tables / 'patients.csv'}: has no scores for the arm {reference!r}; set evaluation.reference_arm"
        )
    arms = shown_arms(options, scores)
    slides, names = slides_by_name(sheet), Names(pseudonyms)
    ranked = scores[reference].dropna().sort_values().index
    chosen = {"worst": ranked[0], "median": ranked[(len(ranked) - 1) // 2]}
    with figure(WIDTH, len(chosen) * 48 * MM + 8 * MM, out) as fig:
        grid = fig.subplots(len(chosen), 2 + len(arms), squeeze=False)
        for row, (rank, patient) in zip(grid, chosen.items(), strict=True):
            slide, folders = run_of(evaluation, arms, runs, patient)
            plot_slide(row, options, slides[slide], names, dict(zip(arms, folders, strict=True)))
            row[0].set_ylabel(f"{rank} patient\nof “{options.arms[reference].label}”")
        class_legend(fig, options.classes)


def shown_arms(options: MapsOptions, scores: pd.DataFrame) -> list[str]:
    """The reference arm and the one with the highest mean score (patients × arms) among the others.

    Where any of the others trains on the annotated patients only, the best of these is taken.
    """
    reference = options.evaluation.reference_arm
    others = [arm for arm in options.arms if arm in scores and arm != reference]
    fair = [arm for arm in others if options.arms[arm].annotations == "annotated"] or others
    return [reference, *sorted(fair, key=lambda arm: -scores[arm].mean())[:1]]


def plot_slide(
    row: Sequence[Axes], options: MapsOptions, slide: Slide, names: Names, folders: Mapping[str, Path]
) -> None:
    """A slide, its annotation, and its map by each arm, whose run is in this folder."""
    for folder in folders.values():
        check_unchanged(folder / f"maps/{slide.slide}.png")
    with Image.open(next(iter(folders.values())) / f"maps/{slide.slide}.png") as found:
        place = [float(found.info[key]) for key in ("level0_x", "level0_y", "downsample")]
        size = found.size
    image, truth = read_truth(options, slide, place, size)
    patient, name = names.patient(slide.patient), names.slide(slide.slide)
    show(row[0], image, f"patient {patient}" + (f", slide {name}" if name != patient else ""))
    show(row[1], coloured(truth, options.classes), "annotation")
    scored = options.evaluation.classes or [item.name for item in options.classes[1:]]
    for axes, (arm, folder) in zip(row[2:], folders.items(), strict=True):
        with Image.open(folder / f"maps/{slide.slide}.png") as found:
            labels = np.asarray(found.resize(truth.shape[::-1], Image.Resampling.NEAREST))
        labels = np.where(truth == IGNORE_INDEX, IGNORE_INDEX, labels)
        score = run_score(folder / "confusion.csv", slide.patient, scored)
        show(axes, coloured(labels, options.classes), f"{wrapped(options.arms[arm].label)}\nDice {score:.3f}")


def run_of(evaluation: Path, arms: Sequence[str], runs: pd.DataFrame, patient: str) -> tuple[str, list[Path]]:
    """The patient's first test slide, and for each arm the folder of the first run that tested it.

    The runs are those of `scores.csv`; folders of an earlier configuration may lie next to theirs.
    """
    tested = runs[(runs["patient"] == patient) & (runs["role"] == "test")].iloc[0]
    folders = [evaluation / arm / tested["split"] / f"seed{tested['seed']}" for arm in arms]
    for arm, folder in zip(arms, folders, strict=True):
        check_run(folder, arm, tested)
    rows = CONFUSION.read(folders[0] / "confusion.csv")
    slides = rows.loc[(rows["patient"] == patient) & (rows["role"] == "test"), "slide"]
    if slides.empty:
        raise UserError(f"{folders[0]}: has no map of patient {patient!r}; run `stedm evaluation score` again")
    return str(slides.iloc[0]), folders


def check_run(folder: Path, arm: str, run: pd.Series) -> None:
    """Refuse the scores of another network, as where folders were swapped.

    Raises:
        UserError: they are of another arm, split or seed.
    """
    row = CONFUSION.read(folder / "confusion.csv").iloc[0]
    found, needed = (row["arm"], row["split"], row["seed"]), (arm, run["split"], run["seed"])
    if found != needed:
        texts = ("arm {}, split {}, seed {}".format(*one) for one in (found, needed))
        raise UserError(
            "{}: is of {}, not of {}; put the right folder there, or delete it and run again".format(folder, *texts)
        )


def run_score(confusion: Path, patient: str, scored: Sequence[str]) -> float:
    """Mean Dice over the scored classes of a patient in one run: the score of the map that is shown."""
    table = patient_metrics(CONFUSION.read(confusion))
    chosen = table[(table["patient"] == patient) & (table["metric"] == "dice") & table["class"].isin(scored)]
    return float(chosen["value"].mean())


def read_truth(
    options: PatchesOptions, slide: Slide, place: Sequence[float], size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Image (h, w, 3) and labels (h, w) of the region covered by a map, no side longer than `LONGEST`.

    Args:
        options: how the slide and its annotation are read.
        slide: the row of the sheet.
        place: level-0 x, y of the map and its downsample.
        size: width and height of the map.
    """
    assert slide.annotation is not None  # it was scored
    x0, y0, downsample = place
    shrink = max(1.0, max(size) / LONGEST)
    w, h = (max(1, round(side / shrink)) for side in size)
    with open_slide(slide, options.patches) as opened:
        annotation = read_annotation(
            slide.annotation,
            options.classes,
            options.annotations,
            opened.dimensions,
            slide.path.name,
            opened.bounds,
            max_megapixels=options.patches.max_megapixels,
        )
        image = opened.read_region(int(x0), int(y0), w, h, downsample * shrink)
    return image, annotation.rasterise(x0, y0, w, h, downsample * shrink)
