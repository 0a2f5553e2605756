"""Test slides with their annotation and what networks make of them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from stedm.config import IGNORE_INDEX, Annotations, Arm, Evaluation, Patches, TissueClass
from stedm.errors import UserError
from stedm.evaluation.statistics import patient_metrics
from stedm.figures.style import MM, WIDTH, class_legend, coloured, figure, show, wrapped
from stedm.sheet import Slide, slides_by_name
from stedm.slides import open_slide
from stedm.slides.annotations import read_annotation
from stedm.tables import read_table

LONGEST = 700
"""Pixels of the longest side of a picture."""


def draw_maps(
    options: Evaluation,
    arms: Mapping[str, Arm],
    classes: Sequence[TissueClass],
    annotations: Annotations,
    patches: Patches,
    sheet: Path,
    tables: Path,
    evaluation: Path,
    out: Path,
) -> None:
    """The patients with the reference arm's worst and median score: slide, annotation, map of that arm and of the best.

    The best arm is that of the highest mean among those that train on the annotated patients only (among all others
    where there is none); of several numbers of annotated patients the smallest is shown.

    Args:
        options: reference arm.
        arms: of the study.
        classes: of the labels.
        annotations: how annotation files are read.
        patches: their resolution.
        sheet: sheet that `write_sheet` wrote.
        tables: folder of `scores.csv` and `patients.csv`.
        evaluation: folder of {arm}/{split}/seed{seed}/ with confusion.csv and maps.
        out: PNG file; a PDF is written beside it.
    """
    scores = read_table(tables / "patients.csv")
    annotated = scores["annotated_patients"].min()
    wide = scores[scores["annotated_patients"] == annotated].pivot_table(index="patient", columns="arm", values="score")
    reference = options.reference_arm
    if reference not in wide:
        raise UserError(
            f"{tables / 'patients.csv'}: has no scores of the arm {reference!r}; set evaluation.reference_arm"
        )
    others = [arm for arm in arms if arm in wide and arm != reference]
    fair = [arm for arm in others if arms[arm].annotations == "annotated"] or others
    shown = [reference, *sorted(fair, key=lambda arm: -wide[arm].mean())[:1]]
    ranked = wide[reference].dropna().sort_values()
    chosen = {"worst": ranked.index[0], "median": ranked.index[(len(ranked) - 1) // 2]}
    runs = read_table(tables / "scores.csv")
    runs = runs[runs["annotated_patients"] == annotated]
    slides = slides_by_name(sheet)
    scored = options.classes or [item.name for item in classes[1:]]
    with figure(WIDTH, len(chosen) * 48 * MM + 8 * MM, out) as drawn:
        grid = drawn.subplots(len(chosen), 2 + len(shown), squeeze=False)
        for row, (rank, patient) in zip(grid, chosen.items(), strict=True):
            name, folders = run_of(evaluation, shown, runs, str(patient))
            with Image.open(folders[0] / "maps" / f"{name}.png") as found:
                place = [float(found.info[key]) for key in ("level0_x", "level0_y", "downsample")]
                size = found.size
            image, truth = read_truth(slides[name], classes, annotations, patches, place, size)
            show(row[0], image, f"patient {patient}" + (f", slide {name}" if name != patient else ""))
            show(row[1], coloured(truth, classes), "annotation")
            for axes, arm, folder in zip(row[2:], shown, folders, strict=True):
                with Image.open(folder / "maps" / f"{name}.png") as found:
                    labels = np.asarray(found.resize(truth.shape[::-1], Image.Resampling.NEAREST))
                labels = np.where(truth == IGNORE_INDEX, IGNORE_INDEX, labels)
                score = run_score(folder / "confusion.csv", str(patient), scored)
                show(axes, coloured(labels, classes), f"{wrapped(arms[arm].label)}\nDice {score:.3f}")
            row[0].set_ylabel(f"{rank} patient\nof “{arms[reference].label}”")
        class_legend(drawn, classes)


def run_of(evaluation: Path, arms: Sequence[str], runs: pd.DataFrame, patient: str) -> tuple[str, list[Path]]:
    """The patient's first tested slide, and for each arm the folder of the first run that tested it.

    The runs are those of `scores.csv`; folders of an earlier configuration may lie beside theirs.
    """
    tested = runs[(runs["patient"] == patient) & (runs["role"] == "test")].iloc[0]
    folders = [evaluation / arm / tested["split"] / f"seed{tested['seed']}" for arm in arms]
    rows = read_table(folders[0] / "confusion.csv")
    slides = rows.loc[(rows["patient"] == patient) & (rows["role"] == "test"), "slide"]
    if slides.empty:
        raise UserError(f"{folders[0]}: has no map of patient {patient!r}; run `stedm evaluation score` again")
    return str(slides.iloc[0]), folders


def run_score(confusion: Path, patient: str, scored: Sequence[str]) -> float:
    """Mean Dice over the scored classes of a patient in one run: the score of the map that is shown."""
    table = patient_metrics(read_table(confusion))
    chosen = table[(table["patient"] == patient) & (table["metric"] == "dice") & table["class"].isin(scored)]
    return float(chosen["value"].mean())


def read_truth(
    slide: Slide,
    classes: Sequence[TissueClass],
    annotations: Annotations,
    patches: Patches,
    place: Sequence[float],
    size: tuple[int, int],
) -> tuple[np.ndarray, np.ndarray]:
    """Image (h, w, 3) and labels (h, w) of the region that a map covers, no side above `LONGEST`.

    Args:
        slide: the row of the sheet.
        classes: of the labels.
        annotations: how annotation files are read.
        patches: their resolution.
        place: level-0 x, y of the map and its downsample.
        size: width and height of the map.
    """
    assert slide.annotation is not None  # it was scored
    x0, y0, downsample = place
    shrink = max(1.0, max(size) / LONGEST)
    w, h = (max(1, round(side / shrink)) for side in size)
    with open_slide(slide, patches) as opened:
        annotation = read_annotation(slide.annotation, classes, annotations, opened.dimensions, slide.path.name)
        image = opened.read_region(int(x0), int(y0), w, h, downsample * shrink)
    return image, annotation.rasterise(x0, y0, w, h, downsample * shrink)
