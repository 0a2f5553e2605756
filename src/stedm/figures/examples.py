"""Drawn images with what they were made of."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stedm.config import TissueClass
from stedm.figures.style import MM, WIDTH, class_legend, coloured, figure, mosaic, show
from stedm.store import PatchFile, patch_file
from stedm.tables import read_table

ROWS = ("layout", "drawn", "style", "real patch\nof the layout")


def draw_examples(
    manifest: Path, shards: Sequence[Path], patches: Path, classes: Sequence[TissueClass], out: Path, count: int = 8
) -> None:
    """From top to bottom: the layout as it was given, the image drawn, style images, the real patch of the layout.

    A generator without style has no row of style images. The images are the first of as many style patients, evenly
    spaced among all: none is picked by hand.

    Args:
        manifest: rows image, layout_slide, layout_patch, style_slide, style_patient, style_patches.
        shards: patch files of the drawn images; their first coordinate is the image's number in the manifest.
        patches: folder of the slides' patch files.
        classes: of the labels.
        out: PNG file; a PDF is written beside it.
        count: how many images at most.
    """
    table = read_table(manifest)
    files = [PatchFile(path) for path in shards]
    places = {int(image): (file, index) for file in files for index, image in enumerate(file.coords[:, 0])}
    kept = table[table["image"].isin(places)].sort_values("image")
    first = kept.groupby("style_patient", sort=True).head(1).sort_values("style_patient")
    chosen = first.iloc[np.unique(np.linspace(0, len(first) - 1, min(count, len(first))).round().astype(int))]
    styled = bool(files[0].attributes.get("styled", True))
    names = [name for name in ROWS if styled or name != "style"]
    cell = min(26 * MM, (WIDTH - 14 * MM) / len(chosen))
    with figure(len(chosen) * cell + 14 * MM, len(names) * cell + 14 * MM, out, gap=0.012) as drawn:
        grid = drawn.subplots(len(names), len(chosen), squeeze=False)
        for column, row in enumerate(chosen.to_dict("records")):
            file, index = places[int(row["image"])]
            real = patch_file(patches, row["layout_slide"]).image(int(row["layout_patch"]))
            show(grid[0, column], coloured(file.labels(index), classes))
            show(grid[1, column], file.image(index))
            if styled:
                style = patch_file(patches, row["style_slide"])
                styles = np.stack([style.image(int(number)) for number in row["style_patches"].split()])
                show(grid[2, column], mosaic(styles))
                grid[2, column].set_xlabel(row["style_patient"], labelpad=1.5)
            show(grid[-1, column], real)
            grid[-1, column].set_xlabel(row["layout_slide"], labelpad=1.5)
        for axes, name in zip(grid[:, 0], names, strict=True):
            axes.set_ylabel(name)
        class_legend(drawn, classes)
