"""Synthesis: a plan says what to generate; its shards can be generated anywhere, and are the same each time."""

import itertools
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from stedm import config
from stedm.config import PlanOptions, ShardOptions
from stedm.device import device
from stedm.diffusion.pipeline import load_pipeline
from stedm.errors import UserError
from stedm.files import provenance, write_json, written_whole
from stedm.images import to_pixels
from stedm.shards import Generated, Shards, write_shard
from stedm.store import PatchFile, patch_file
from stedm.style.bank import StyleBank
from stedm.tables import MANIFEST, PLAN
from stedm.training_set import by_patient, files_of

Agreement = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Images (B, P, P, 3) uint8 and their layouts (B, P, P) uint8 → (B,) IoU in [0, 1] of what a network sees; NaN where
the layout says nothing."""
AFFINE = ["a", "b", "c", "d", "e", "f"]
MIN_CLASS_SHARE = 0.05
MIN_ANNOTATED_SHARE = 0.5
log = logging.getLogger(__name__)


def plan_images(options: PlanOptions, split: Path, patches: Path, *, out: Path) -> pd.DataFrame:
    """Write the plan: for each image its layout, the layout's affine transform, its style set and its seed.

    Unannotated patients take turns as style source, so that each has equally many images (`pairing: random` samples
    them); the layout is one of an annotated patient of the same group (`pairing: group`; of any where the group has no
    annotated patient), and classes take turns, so that the layouts of a rare one are as frequent: a layout is sampled
    among those with at least 5% of the class.

    Args:
        options: how many images, how they are paired, the affine transforms, the seed.
        split: table of roles.
        patches: folder of patch files.
        out: the plan's file (CSV): image, shard, pairing, group (of the style), layout_class (whose turn it was),
            layout_slide, layout_patch, a … f (rows of the 2×3 matrix that maps pixels of the transformed layout to
            those of the source), style_slide, style_patient, style_patches (separated by spaces), seed.
            provenance.json is written next to it.

    Returns:
        The plan.
    """
    layouts = list(itertools.chain(*by_patient(files_of(split, patches, "annotated")).values()))
    styles = by_patient(files_of(split, patches, "unannotated"))
    if not styles:
        raise UserError(f"{split}: no unannotated patient is left to take styles from; lower splits.annotated_patients")
    classes = layouts[0].class_names
    plan = options.synthesis
    order = sorted(styles)
    rows = []
    for image in range(plan.images):
        rng = np.random.default_rng([options.seed, image])
        turn, place = divmod(image, len(order))
        if plan.pairing == "random":
            patient = str(rng.choice(order))
        else:
            patient = str(np.random.default_rng([options.seed, turn]).permutation(order)[place])
        style = styles[patient][rng.integers(len(styles[patient]))]
        wanted = turn % len(classes)
        layout, index = sample_layout(layouts, style, wanted, plan.pairing, rng)
        size = plan.style_images
        chosen = rng.choice(len(style), size, replace=len(style) < size)
        matrix = random_affine(plan.affine, layout.patch_size, rng)
        rows.append(
            {
                "image": image,
                "shard": image * plan.shards // plan.images,
                "pairing": plan.pairing,
                "group": style.attributes["group"],
                "layout_class": classes[wanted],
                "layout_slide": layout.slide,
                "layout_patch": index,
                **dict(zip(AFFINE, matrix.ravel().round(6).tolist(), strict=True)),
                "style_slide": style.slide,
                "style_patient": patient,
                "style_patches": " ".join(map(str, chosen)),
                "seed": int(rng.integers(2**31)),
            }
        )
    planned = pd.DataFrame(rows)
    with written_whole(out) as temporary:
        PLAN.write(planned, temporary)
    files = [*layouts, *(file for some in styles.values() for file in some)]
    inputs = {file.slide: file.fingerprint for file in files}
    write_json(out.with_name("provenance.json"), provenance(options.model_dump(mode="json"), inputs, options.seed))
    return planned


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


def warp_layout(layout: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Nearest-neighbour warp of a layout (P, P) uint8; outside, the layout is mirrored."""
    flags = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(layout, matrix, layout.shape[::-1], flags=flags, borderMode=cv2.BORDER_REFLECT_101)


def layout_of(row: "pd.Series[Any]", files: dict[str, PatchFile]) -> np.ndarray:
    """(P, P) uint8 layout of a row of the plan."""
    source = files[str(row["layout_slide"])].labels(int(row["layout_patch"]))
    return warp_layout(source, row[AFFINE].to_numpy(float).reshape(2, 3))


def style_set(bank: StyleBank, row: "pd.Series[Any]", files: dict[str, PatchFile]) -> torch.Tensor:
    """(n, D) embeddings of the style set of a row of the plan."""
    return bank.embeddings(files[str(row["style_slide"])], [int(index) for index in str(row["style_patches"]).split()])


def generate_shard(
    options: ShardOptions,
    generator: Path,
    plan: Path,
    shard: int,
    patches: Path,
    *,
    out: Path,
    style_bank: Path | None = None,
    agreement: Agreement | None = None,
) -> None:
    """Generate the images of one shard of a plan.

    Args:
        options: names of the classes; the filter: least agreement that an image must have, and how often it is
            generated again.
        generator: folder of the pipeline.
        plan: CSV of `plan_images`.
        shard: number of the shard.
        patches: folder of patch files.
        out: the shard, see `stedm.shards`.
        style_bank: folder of embeddings; None for a generator without style.
        agreement: of images with their layouts, by a network; needed with a filter.
    """
    table = PLAN.read(plan)
    table = table[table["shard"] == shard]
    pipeline = load_pipeline(generator).to(device())
    pipeline.set_progress_bar_config(disable=True)
    names = set(table["layout_slide"]) | set(table["style_slide"])
    files = {name: patch_file(patches, name) for name in names}
    size = next(iter(files.values())).patch_size
    bank = StyleBank(style_bank) if style_bank is not None else None

    def generate(rows: "list[pd.Series[Any]]", redraw: int) -> tuple[np.ndarray, np.ndarray]:
        layouts = np.stack([layout_of(row, files) for row in rows])
        images = pipeline(
            layout=torch.from_numpy(layouts),
            style_embeddings=bank and torch.stack([style_set(bank, row, files) for row in rows]),
            generator=[torch.Generator().manual_seed(int(row["seed"]) + redraw) for row in rows],
        ).images
        return to_pixels(images), layouts

    def generated() -> Iterator[Generated]:
        for start in tqdm(range(0, len(table), pipeline.config.batch_size), unit="batch", disable=None):
            rows = [row for _, row in table.iloc[start : start + pipeline.config.batch_size].iterrows()]
            yield from agreeing(rows, generate, options.filter, agreement)
            log.info("generated %d of %d", start + len(rows), len(table))

    attributes = {"generator": str(generator.name), "styled": bank is not None}
    kept = write_shard(out, generated(), size, options.class_names, attributes)
    log.info("kept %d of %d", kept, len(table))


def agreeing(
    rows: "list[pd.Series[Any]]",
    generate: "Callable[[list[pd.Series[Any]], int], tuple[np.ndarray, np.ndarray]]",
    chosen: config.Filter | None,
    agreement: Agreement | None,
) -> Iterator[Generated]:
    """The images of rows of the plan, without those that never agree with their layout.

    Args:
        rows: of the plan.
        generate: images and layouts of rows, at a redraw.
        chosen: least agreement, and how often an image is generated again; None keeps all.
        agreement: as of `generate_shard`.
    """
    for redraw in range(1 + (chosen.redraws if chosen else 0)):
        images, layouts = generate(rows, redraw)
        fails = np.zeros(len(rows), bool)
        if chosen and agreement:
            fails = agreement(images, layouts) < chosen.iou  # NaN, where nothing can be told, is no failure
        for place in np.flatnonzero(~fails):
            yield Generated(int(rows[place]["image"]), images[place], layouts[place], redraw)
        rows = [row for row, failed in zip(rows, fails, strict=True) if failed]
        if not rows:
            return


def write_manifest(plan: Path, shards: Sequence[Path], *, out: Path) -> pd.DataFrame:
    """Write the plan with what became of it.

    Args:
        plan: CSV of `plan_images`.
        shards: files of `generate_shard`.
        out: the manifest's file (CSV): the plan's columns, seed being that of the image; kept, whether it passed the
            filter (True without one); redraws, how often it was generated again (empty where it is not kept).

    Returns:
        The manifest.

    Raises:
        UserError: the shards are of another plan; the filter has kept no image.
    """
    table = PLAN.read(plan)
    redraws = Shards(shards).redraws
    if not set(redraws) <= set(table["image"]):
        raise UserError(f"{plan}: has not the images of {shards[0].parent}; generate the shards again")
    if not redraws:
        raise UserError(f"{plan}: not one image agrees with its layout as synthesis.filter.iou asks; lower it")
    table["kept"] = table["image"].isin(redraws)
    table["redraws"] = table["image"].map(redraws).astype("Int64")
    table["seed"] += table["redraws"].fillna(0).astype("int64")
    log.info("%d of %d images kept, %d after a redraw", table["kept"].sum(), len(table), (table["redraws"] > 0).sum())
    with written_whole(out) as temporary:
        MANIFEST.write(table, temporary)
    return table
