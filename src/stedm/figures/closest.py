"""Generated images next to the training patches closest to them: has the generator copied?"""

from collections.abc import Sequence
from pathlib import Path

from stedm.figures.names import Names
from stedm.figures.style import MM, WIDTH, figure, show
from stedm.shards import Shards
from stedm.store import patch_file
from stedm.tables import IMAGES

ROWS = ("generated", "closest\ntraining patch")
MOST = 8
"""Pairs that are shown at most."""


def plot_closest(
    quality: Path, shards: Sequence[Path], patches: Path, *, out: Path, pseudonyms: Path | None = None
) -> None:
    """Plot the generated images that are closest to a training patch, closest first, above that patch.

    Args:
        quality: folder of `evaluate_images`, whose `images.csv` has the closest patches.
        shards: files of the generated images.
        patches: folder of the slides' patch files.
        out: PNG file; a PDF is written next to it.
        pseudonyms: key of `write_pseudonyms`; None: slides have the names of the sheet.
    """
    table = IMAGES.read(quality / "images.csv")
    generated, names = Shards(shards, table), Names(pseudonyms)
    table = table.nsmallest(MOST, "closest_distance")
    cell = min(26 * MM, (WIDTH - 14 * MM) / len(table))
    with figure(len(table) * cell + 14 * MM, 2 * cell + 10 * MM, out, gap=0.012) as fig:
        grid = fig.subplots(2, len(table), squeeze=False)
        for (above, below), row in zip(grid.T, table.to_dict("records"), strict=True):
            real = patch_file(patches, row["closest_slide"]).image(int(row["closest_patch"]))
            show(above, generated.image(row["image"]), f"{row['closest_distance']:.3f}")
            show(below, real)
            below.set_xlabel(names.slide(row["closest_slide"]), labelpad=1.5)
        for axes, name in zip(grid[:, 0], ROWS, strict=True):
            axes.set_ylabel(name)
