"""Each patient's score by arm."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from stedm.figures.panels import Panel, across, read_panels
from stedm.figures.style import COLUMN, MM, WIDTH, arm_colours, figure, wrapped


def plot_scores(patients: Path, arms: Path, *, out: Path) -> None:
    """Plot a dot per patient and arm, joined by a line per patient, and each arm's mean with its 95% interval.

    Args:
        patients: `patients.csv` of `compare_arms`.
        arms: `arms.csv` of `compare_arms`; its order is the figure's, from top to bottom.
        out: PNG file; a PDF is written next to it.
    """
    panels, labels, reference = read_panels(patients, arms)
    width = min(WIDTH, 1.5 * COLUMN + (len(panels) - 1) * 45 * MM)
    with figure(width, (16 + 9.5 * len(labels)) * MM, out) as fig:
        grid = fig.subplots(1, len(panels), sharex=True, sharey=True, squeeze=False)[0]
        for axes, panel in zip(grid, panels, strict=True):
            plot_panel(axes, panel, list(labels), reference)
        grid[0].set_yticks(range(len(labels)), [wrapped(label) for label in labels.values()])
        grid[0].set_ylim(len(labels) - 0.4, -0.6)
        counts = " or ".join(str(count) for count in sorted({len(panel.scores) for panel in panels}))
        plural = "" if counts == "1" else "s"
        line = "" if reference is None else f"; dashed: mean of “{labels[reference]}”"
        fig.supxlabel(f"Dice of {counts} patient{plural}; diamond: mean and 95% interval{line}", fontsize=7)


def plot_panel(axes: Axes, panel: Panel, order: list[str], reference: str | None) -> None:
    """One number of annotated patients: arms from top to bottom."""
    colours = arm_colours(order, reference)
    places = np.arange(len(order))
    scores = panel.scores.reindex(columns=order)
    for values in scores.to_numpy():
        axes.plot(values, places, color="#000000", alpha=0.15, linewidth=0.5, zorder=1)
    if reference in panel.arms:
        mean = panel.arms[reference]["dice_mean"]
        axes.axvline(mean, color=colours[reference], linewidth=0.6, linestyle=(0, (4, 3)), zorder=0)
    for place, arm in enumerate(order):
        if arm not in panel.arms:
            continue
        row, colour, below = panel.arms[arm], colours[arm], place + 0.28
        axes.scatter(scores[arm], np.full(len(scores), place), s=11, color=colour, alpha=0.6, linewidths=0, zorder=2)
        axes.plot([row["dice_mean_low"], row["dice_mean_high"]], [below, below], color=colour, linewidth=1.4, zorder=3)
        axes.plot(row["dice_mean"], below, "D", color=colour, mec="white", mew=0.5, markersize=4.2, zorder=4)
        text = f"{row['dice_mean']:.3f}" + ("" if np.isnan(row["dice_sd"]) else f"\n±{row['dice_sd']:.3f}")
        axes.text(1.02, place + 0.1, text, transform=axes.get_yaxis_transform(), va="center", fontsize=6)
    axes.text(1.02, -0.55, "mean\n± SD", transform=axes.get_yaxis_transform(), va="center", fontsize=6, style="italic")
    axes.set_title(panel.title, loc="left")
    across(axes)
