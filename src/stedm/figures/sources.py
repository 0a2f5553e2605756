"""What each source makes of the same layouts in the same styles, side by side."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from stedm.config import SourcesOptions
from stedm.figures.examples import one_per_patient, style_images
from stedm.figures.names import Names
from stedm.figures.style import MM, WIDTH, class_legend, coloured, figure, mosaic, show
from stedm.shards import Shard, Shards
from stedm.store import patch_file
from stedm.tables import MANIFEST


def plot_sources(
    options: SourcesOptions,
    manifests: Sequence[Path],
    shards: Sequence[Path],
    patches: Path,
    *,
    out: Path,
    pseudonyms: Path | None = None,
) -> None:
    """Plot, from top to bottom: real patches of the style's slide, the annotated patch, its layout, moved as the plan
    says, and the image that each source made of them.

    Args:
        options: the sources, in the order of the rows, and the classes of the layouts.
        manifests: CSV of `write_manifest` of each source; all of the same plan.
        shards: files of all their images.
        patches: folder of the slides' patch files.
        out: PNG file; a PDF is written next to it.
        pseudonyms: key of `write_pseudonyms`; None: slides and patients have the names of the sheet.
    """
    tables, names = [MANIFEST.read(path) for path in manifests], Names(pseudonyms)
    made = [Shards(of_source(shards, table), table) for table in tables]
    common = set.intersection(*(set(one.image_ids) for one in made))
    chosen = one_per_patient(tables[0][tables[0]["image"].isin(common)], made[0])
    rows = ["style", "annotated", "layout", *(name.replace("_", " ") for name in options.sources)]
    cell = min(26 * MM, (WIDTH - 14 * MM) / len(chosen))
    with figure(len(chosen) * cell + 14 * MM, len(rows) * cell + 14 * MM, out, gap=0.012) as fig:
        grid = fig.subplots(len(rows), len(chosen), squeeze=False)
        for column, row in zip(grid.T, chosen.to_dict("records"), strict=True):
            show(column[0], mosaic(style_images(patches, row)))
            column[0].set_title(names.patient(row["style_patient"]), pad=2)
            show(column[1], patch_file(patches, row["layout_slide"]).image(row["layout_patch"]))
            show(column[2], coloured(made[0].layout(row["image"]), options.classes))
            for axes, one in zip(column[3:], made, strict=True):
                show(axes, one.image(row["image"]))
        for axes, name in zip(grid[:, 0], rows, strict=True):
            axes.set_ylabel(name)
        class_legend(fig, options.classes)


def of_source(shards: Sequence[Path], table: pd.DataFrame) -> list[Path]:
    """Those of the shards that a manifest is of."""
    return [path for path in shards if Shard(path).source == table["source"].iloc[0]]
