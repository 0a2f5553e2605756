"""The plan of what to make: for each image its layout and its style."""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from stedm import config
from stedm.config import PlanOptions
from stedm.errors import UserError
from stedm.files import provenance, write_json, written_whole
from stedm.store import PatchFile
from stedm.tables import PLAN
from stedm.training_set import by_patient, files_of

Row = pd.Series
"""Of a plan."""
AFFINE = ["a", "b", "c", "d", "e", "f"]
IDENTITY = np.eye(2, 3)
MIN_CLASS_SHARE = 0.05
MIN_ANNOTATED_SHARE = 0.5


def plan_images(options: PlanOptions, split: Path, patches: Path, *, out: Path) -> pd.DataFrame:
    """Write the plan of a source: for each image its layout, the layout's affine transform, its style set and its seed.

    Args:
        options: how many images, how they are paired, the affine transforms, the source and the split, the seed.
        split: table of roles.
        patches: folder of patch files.
        out: the plan's file (CSV): source, split, image, shard, pairing, group (of the style), layout_class (whose turn
            it was), layout_slide, layout_patch, a … f (rows of the 2×3 matrix that maps pixels of the transformed
            layout to those of the source), style_slide, style_patient, style_patches (separated by spaces), seed.
            provenance.json is written next to it.

    Returns:
        The plan.

    Raises:
        UserError: no unannotated patient, or no annotated patch of which at least half is annotated.
    """
    styles = by_patient(files_of(split, patches, "unannotated"))
    if not styles:
        raise UserError(f"{split}: no unannotated patient is left to take styles from; lower splits.annotated_patients")
    if options.kind in ("pseudo_labels", "repaint"):
        layouts: list[PatchFile] = []
        planned = as_they_are(options, styles)
    else:
        layouts = list(itertools.chain(*by_patient(files_of(split, patches, "annotated")).values()))
        planned = paired(options, layouts, styles)
    plan = options.synthesis
    made_for = {"source": options.source_name, "split": options.split_name}
    table = pd.DataFrame(
        {**made_for, "image": i, "shard": i * plan.shards // plan.images, **row} for i, row in enumerate(planned)
    )
    with written_whole(out) as temporary:
        PLAN.write(table, temporary)
    files = [*layouts, *(file for some in styles.values() for file in some)]
    inputs = {file.slide: file.fingerprint for file in files}
    write_json(out.with_name("provenance.json"), provenance(options.model_dump(mode="json"), inputs, options.seed))
    return table


def paired(
    options: PlanOptions, layouts: list[PatchFile], styles: dict[str, list[PatchFile]]
) -> Iterator[dict[str, Any]]:
    """Layouts of annotated patients with styles of unannotated ones.

    Unannotated patients take turns as style source, so that each has equally many images (`pairing: random` samples
    them); the layout is one of an annotated patient of the same group (`pairing: group`; of any where the group has no
    annotated patient), and classes take turns, so that the layouts of a rare one are as frequent: a layout is sampled
    among those with at least 5% of the class.

    Args:
        options: as of `plan_images`.
        layouts: files of the annotated patients.
        styles: files of each unannotated patient.
    """
    classes = layouts[0].class_names
    plan = options.synthesis
    for image in range(plan.images):
        rng = np.random.default_rng([options.seed, image])
        turn, patient = in_turn(styles, image, options.seed)
        if plan.pairing == "random":
            patient = str(rng.choice(sorted(styles)))
        style = styles[patient][rng.integers(len(styles[patient]))]
        wanted = turn % len(classes)
        layout, index = sample_layout(layouts, style, wanted, plan.pairing, rng)
        size = plan.style_images
        chosen = rng.choice(len(style), size, replace=len(style) < size)
        matrix = random_affine(plan.affine, layout.patch_size, rng)
        yield {
            "pairing": plan.pairing,
            "layout_class": classes[wanted],
            **layout_columns(layout, index, matrix),
            **style_columns(style, chosen),
            "seed": int(rng.integers(2**31)),
        }


def as_they_are(options: PlanOptions, styles: dict[str, list[PatchFile]]) -> Iterator[dict[str, Any]]:
    """Patches of unannotated patients, who take turns, none twice before all of its patient were there."""
    shuffled = {}
    for number, (patient, files) in enumerate(styles.items()):
        places = [(file, index) for file in files for index in range(len(file))]
        shuffled[patient] = [places[i] for i in np.random.default_rng([options.seed, number]).permutation(len(places))]
    for image in range(options.synthesis.images):
        turn, patient = in_turn(styles, image, options.seed)
        file, index = shuffled[patient][turn % len(shuffled[patient])]
        rng = np.random.default_rng([options.seed, image])
        size = options.synthesis.style_images
        style = rng.choice(len(file), size, replace=len(file) < size) if options.kind == "repaint" else [index]
        yield {
            "pairing": "none",
            "layout_class": "",
            **layout_columns(file, index, IDENTITY),
            **style_columns(file, style),
            "seed": int(rng.integers(2**31)),
        }


def in_turn(styles: dict[str, list[PatchFile]], image: int, seed: int) -> tuple[int, str]:
    """The number of an image's turn, and whose it is: in each turn all patients, in an order of its own."""
    turn, place = divmod(image, len(styles))
    return turn, str(np.random.default_rng([seed, turn]).permutation(sorted(styles))[place])


def layout_columns(file: PatchFile, index: int, matrix: np.ndarray) -> dict[str, Any]:
    affine = dict(zip(AFFINE, matrix.ravel().round(6).tolist(), strict=True))
    return {"layout_slide": file.slide, "layout_patch": index, **affine}


def style_columns(file: PatchFile, indices: Iterable[int]) -> dict[str, Any]:
    return {
        "group": file.attributes["group"],
        "style_slide": file.slide,
        "style_patient": file.patient,
        "style_patches": " ".join(map(str, indices)),
    }


def plan_grid(plan: Path, *, out: Path, rows: int = 4, columns: int = 6) -> pd.DataFrame:
    """Write a plan of a few layouts of another one in a few of its styles, each with each, all in one shard.

    Layouts and styles are of as many patients as there are, evenly spaced among them; none is picked by hand. Images
    in a row start from the same noise, so that they differ by their style alone.

    Args:
        plan: CSV of `plan_images`.
        out: the plan's file; image r * columns + c has layout r and style c.
        rows: how many layouts at most.
        columns: how many styles at most.
    """
    table = PLAN.read(plan)
    styled = ["group", "style_slide", "style_patient", "style_patches"]
    layouts = evenly(table, "layout_slide", rows).drop(columns=[*styled, "image", "shard"])
    grid = layouts.merge(evenly(table, "style_patient", columns)[styled], how="cross")
    grid.insert(0, "image", range(len(grid)))
    grid.insert(1, "shard", 0)
    with written_whole(out) as temporary:
        PLAN.write(grid, temporary)
    return grid


def evenly(table: pd.DataFrame, column: str, count: int) -> pd.DataFrame:
    """Up to `count` rows, of as many different values of a column as there are, evenly spaced among them."""
    turn = table.groupby(column).cumcount()
    ordered = table.assign(turn=turn).sort_values(["turn", column]).drop(columns="turn")
    distinct = min(count, table[column].nunique())
    first = ordered.head(table[column].nunique())
    spaced = first.iloc[np.linspace(0, len(first) - 1, distinct).round().astype(int)]
    return pd.concat([spaced, ordered.iloc[len(first) : len(first) + count - distinct]])


def sample_layout(
    layouts: list[PatchFile], style: PatchFile, wanted: int, pairing: str, rng: np.random.Generator
) -> tuple[PatchFile, int]:
    """A slide and patch whose layout has the wanted class, or, where none has, any."""
    paired = [file for file in layouts if pairing != "group" or file.attributes["group"] == style.attributes["group"]]
    for pool, minimum in itertools.product((paired, layouts), (MIN_CLASS_SHARE, 0.0)):
        choices = [
            (file, np.flatnonzero((share.sum(1) >= MIN_ANNOTATED_SHARE) & (share[:, wanted] >= minimum)))
            for file in pool
            for share in [file.class_fractions]
        ]
        choices = [(file, found) for file, found in choices if len(found)]
        if choices:
            file, found = choices[rng.integers(len(choices))]
            return file, int(rng.choice(found))
    raise UserError(
        "no annotated patient has a patch of which half is annotated; annotate more, or make patches smaller"
    )


def random_affine(options: config.Affine, size: int, rng: np.random.Generator) -> np.ndarray:
    """(2, 3) matrix from pixels of the transformed layout to those of the source, about the middle of the image."""
    scale = rng.uniform(*options.scale)
    angle = np.deg2rad(rng.uniform(-options.rotation, options.rotation))
    shear = np.tan(np.deg2rad(rng.uniform(-options.shear, options.shear)))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = turn @ np.array([[1, shear], [0, 1]]) / scale
    if rng.random() < 0.5:
        linear[:, 0] *= -1
    middle = np.full(2, (size - 1) / 2)
    shift = rng.uniform(-options.translation, options.translation, 2) * size
    return np.column_stack([linear, middle - linear @ middle + shift])


def warp(pixels: np.ndarray, matrix: np.ndarray, interpolation: int = cv2.INTER_NEAREST) -> np.ndarray:
    """Affine warp of a layout (P, P) or image (P, P, 3), uint8; outside, it is mirrored."""
    flags = interpolation | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(pixels, matrix, pixels.shape[:2], flags=flags, borderMode=cv2.BORDER_REFLECT_101)


def matrix_of(row: Row) -> np.ndarray:
    """(2, 3) matrix of a row of the plan, from pixels of the transformed layout to those of the source."""
    return row[AFFINE].to_numpy(float).reshape(2, 3)


def patch_of(row: Row, files: Mapping[str, PatchFile]) -> np.ndarray:
    """(P, P, 3) uint8 patch of the layout of a row of the plan, moved as the layout is."""
    return warp(files[row["layout_slide"]].image(int(row["layout_patch"])), matrix_of(row), cv2.INTER_CUBIC)


def layout_of(row: Row, files: Mapping[str, PatchFile]) -> np.ndarray:
    """(P, P) uint8 layout of a row of the plan."""
    return warp(files[row["layout_slide"]].labels(int(row["layout_patch"])), matrix_of(row))
