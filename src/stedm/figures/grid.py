"""The grid of layouts and styles: the generated image of each pair."""

from pathlib import Path

from matplotlib.axes import Axes

from stedm.config import ClassesOptions
from stedm.figures.examples import style_images
from stedm.figures.names import Names
from stedm.figures.style import MM, WIDTH, class_legend, coloured, figure, mosaic, show
from stedm.shards import Shards
from stedm.tables import PLAN


def plot_grid(
    options: ClassesOptions,
    manifest: Path,
    images: Path,
    patches: Path,
    *,
    out: Path,
    pseudonyms: Path | None = None,
) -> None:
    """Plot layouts in the first column, style images in the first row, and the image generated from each pair.

    Of a style, four images are shown, or one where it has fewer.

    Args:
        options: the classes of the layouts.
        manifest: CSV of `plan_grid`.
        images: shard of the images generated from it.
        patches: folder of the slides' patch files.
        out: PNG file; a PDF is written next to it.
        pseudonyms: key of `write_pseudonyms`; None: slides and patients have the names of the sheet.
    """
    table = PLAN.read(manifest)
    generated, names = Shards([images], table), Names(pseudonyms)
    styles = table[table["seed"] == table["seed"].iloc[0]].to_dict("records")  # a row of the grid has one seed
    rows, columns = len(table) // len(styles), len(styles)
    cell = min(26 * MM, (WIDTH - 6 * MM) / (columns + 1))
    with figure((columns + 1) * cell + 6 * MM, (rows + 1) * cell + 14 * MM, out, gap=0.012) as fig:
        grid = fig.subplots(rows + 1, columns + 1, squeeze=False)
        plot_corner(grid[0, 0])
        for axes, row in zip(grid[0, 1:], styles, strict=True):
            name = names.patient(row["style_patient"])
            show(axes, mosaic(style_images(patches, row)))
            axes.set_title(name, pad=2, fontsize=min(7, 110 * cell / len(name)))  # as wide as its column
            frame(axes)
        for axes, row in zip(grid[1:, 0], table[::columns].to_dict("records"), strict=True):
            show(axes, coloured(generated.layout(row["image"]), options.classes))
            axes.set_ylabel(names.slide(row["layout_slide"]))
            frame(axes)
        for axes, image_id in zip(grid[1:, 1:].flat, table["image"], strict=True):
            show(axes, generated.image(image_id))
        class_legend(fig, options.classes)


def plot_corner(axes: Axes) -> None:
    """Say where the styles are and where the layouts."""
    axes.axis("off")
    axes.text(0.95, 0.5, "style →", ha="right", va="center", transform=axes.transAxes, style="italic")
    axes.text(0.5, 0.05, "layout ↓", ha="center", va="bottom", transform=axes.transAxes, style="italic")


def frame(axes: Axes) -> None:
    """A heavier frame around what the generator was given."""
    for spine in axes.spines.values():
        spine.set(linewidth=1.0, color="#000000")
