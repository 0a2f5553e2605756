"""Shards of a plan, and the manifest: what became of each image."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from stedm.config import ShardOptions
from stedm.device import BatchSize
from stedm.errors import UserError
from stedm.files import written_whole
from stedm.models import check_made_for
from stedm.shards import Generated, Shards, write_shard
from stedm.store import PatchFile, patch_file
from stedm.synthesis.plan import Row
from stedm.tables import MANIFEST, PLAN

Source = Callable[[Sequence[Row], Mapping[str, PatchFile]], Iterator[Generated]]
"""What makes images with layouts of rows of a plan and the patch files of the slides in them, by name."""
log = logging.getLogger(__name__)


def make_shard(
    options: ShardOptions,
    source: Source,
    plan: Path,
    shard: int,
    patches: Path,
    *,
    out: Path,
    models: Sequence[Path] = (),
) -> None:
    """Make the images of one shard of a plan.

    Args:
        options: the source's name, whether it reads styles, and names of the classes.
        source: makes the images.
        plan: CSV of `plan_images`.
        shard: number of the shard.
        patches: folder of patch files.
        out: the shard, see `stedm.shards`.
        models: folders of the generator and the network that it is made with.

    Raises:
        UserError: the plan is of another source, or a model was made for another one or another split.
    """
    table = PLAN.read(plan)
    if others := set(table["source"]) - {options.source_name}:
        raise UserError(f"{plan}: is of the source {others.pop()}, not of {options.source_name}; make it again")
    split = str(table["split"].iloc[0])
    made_for = {"generator_name": getattr(options.source, "generator", None)}
    made_for |= {"arm_name": options.network_arm} if options.network_arm else {}
    for model in models:
        check_made_for(model, split=split, **made_for)
    rows = [row for _, row in table[table["shard"] == shard].iterrows()]
    files = {name: patch_file(patches, name) for row in rows for name in (row["layout_slide"], row["style_slide"])}
    size = next(iter(files.values())).patch_size
    attributes = {"source": options.source_name, "split": split, "styled": options.source.styled}
    kept = write_shard(out, source(rows, files), size, options.class_names, attributes)
    log.info("kept %d of %d", kept, len(rows))


def batches(rows: Sequence[Row], size: int = 64) -> Iterator[Sequence[Row]]:
    """So many rows at a time; progress is shown and logged."""
    for start in tqdm(range(0, len(rows), size), unit="batch", disable=None):
        yield rows[start : start + size]
        log.info("made %d of %d", min(start + size, len(rows)), len(rows))


def in_batches(
    rows: Sequence[Row], size: int | None, function: Callable[[Sequence[Row]], list[Generated]]
) -> Iterator[Generated]:
    """What a generator makes of rows, so many at a time (see `BatchSize`); progress is shown and logged."""
    done = 0
    with tqdm(total=len(rows), unit="image", disable=None) as bar:
        for some, made in BatchSize(size).batches(rows, function):
            yield from made
            done += len(some)
            bar.update(len(some))
            log.info("made %d of %d", done, len(rows))


def write_manifest(plan: Path, shards: Sequence[Path], *, out: Path) -> pd.DataFrame:
    """Write the plan with what became of it.

    Args:
        plan: CSV of `plan_images`.
        shards: files of `make_shard`.
        out: the manifest's file (CSV): the plan's columns, seed being that of the image; kept, whether it has a
            label (pseudo-labels may have none); redraws, how often it was generated again (empty where it is not kept).

    Returns:
        The manifest.

    Raises:
        UserError: the shards are of another plan, source or split; no image was kept.
    """
    table = PLAN.read(plan)
    redraws = Shards(shards, table).redraws
    if not set(redraws) <= set(table["image"]):
        raise UserError(f"{plan}: has not the images of {shards[0].parent}; generate the shards again")
    if not redraws:
        raise UserError(
            f"{plan}: not one image was kept: the network is unsure everywhere; lower the source's confidence"
        )
    table["kept"] = table["image"].isin(redraws)
    table["redraws"] = table["image"].map(redraws).astype("Int64")
    table["seed"] += table["redraws"].fillna(0).astype("int64")
    log.info("%d of %d images kept, %d after a redraw", table["kept"].sum(), len(table), (table["redraws"] > 0).sum())
    with written_whole(out) as temporary:
        MANIFEST.write(table, temporary)
    return table
