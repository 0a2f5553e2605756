"""Generated images with what they were generated from."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stedm.config import ClassesOptions
from stedm.figures.names import Names
from stedm.figures.style import MM, WIDTH, class_legend, coloured, figure, mosaic, show
from stedm.shards import Shards
from stedm.store import patch_file
from stedm.tables import MANIFEST

ROWS = ("layout", "generated", "style", "real patch\nof the layout")
MOST = 8
"""Images that are shown at most."""


def plot_examples(
    options: ClassesOptions,
    manifest: Path,
    shards: Sequence[Path],
    patches: Path,
    *,
    out: Path,
    pseudonyms: Path | None = None,
) -> None:
    """Plot, from top to bottom: the given layout, the generated image, style images, the real patch of the layout.

    A generator without style has no row of style images.

    Args:
        options: the classes of the layouts.
        manifest: CSV of `write_manifest`.
        shards: files of the generated images.
        patches: folder of the slides' patch files.
        out: PNG file; a PDF is written next to it.
        pseudonyms: key of `write_pseudonyms`; None: slides and patients have the names of the sheet.
    """
    table, names = MANIFEST.read(manifest), Names(pseudonyms)
    generated = Shards(shards, table)
    chosen = one_per_patient(table, generated)
    rows = [name for name in ROWS if generated.styled or name != "style"]
    cell = min(26 * MM, (WIDTH - 14 * MM) / len(chosen))
    with figure(len(chosen) * cell + 14 * MM, len(rows) * cell + 14 * MM, out, gap=0.012) as fig:
        grid = fig.subplots(len(rows), len(chosen), squeeze=False)
        for column, row in zip(grid.T, chosen.to_dict("records"), strict=True):
            show(column[0], coloured(generated.layout(row["image"]), options.classes))
            show(column[1], generated.image(row["image"]))
            if generated.styled:
                show(column[2], mosaic(style_images(patches, row)))
                column[2].set_xlabel(names.patient(row["style_patient"]), labelpad=1.5)
            show(column[-1], patch_file(patches, row["layout_slide"]).image(row["layout_patch"]))
            column[-1].set_xlabel(names.slide(row["layout_slide"]), labelpad=1.5)
        for axes, name in zip(grid[:, 0], rows, strict=True):
            axes.set_ylabel(name)
        class_legend(fig, options.classes)


def one_per_patient(table: pd.DataFrame, generated: Shards) -> pd.DataFrame:
    """The first image of up to `MOST` style patients, evenly spaced among all: none is picked by hand."""
    kept = table[table["image"].isin(generated.image_ids)].sort_values("image")
    first = kept.groupby("style_patient", sort=True).head(1).sort_values("style_patient")
    places = np.linspace(0, len(first) - 1, min(MOST, len(first)))
    return first.iloc[np.unique(places.round().astype(int))]


def style_images(patches: Path, row: Mapping[Any, Any]) -> np.ndarray:
    """(n, P, P, 3) uint8: the style images of a row of a plan or manifest."""
    source = patch_file(patches, row["style_slide"])
    return np.stack([source.image(int(index)) for index in row["style_patches"].split()])
