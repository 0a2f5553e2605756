"""Differences of the arms from the reference, paired by patient."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from stedm.figures.panels import Panel, across, read_panels
from stedm.figures.style import COLUMN, MM, WIDTH, arm_colours, figure, wrapped


def plot_differences(patients: Path, arms: Path, *, out: Path) -> None:
    """Plot the mean difference of each arm with its 95% interval, and a faint dot per patient: a forest plot.

    Args:
        patients: `patients.csv` of `compare_arms`.
        arms: `arms.csv` of `compare_arms`; its order is the figure's, from top to bottom.
        out: PNG file; a PDF is written next to it.
    """
    panels, labels, reference = read_panels(patients, arms)
    colours = arm_colours(list(labels), reference)
    others = [arm for arm in labels if arm != reference]
    if reference is None or not others:  # one arm is a study too
        with figure(COLUMN, 16 * MM, out) as fig:
            fig.text(0.5, 0.5, "There is only one arm, so nothing to compare.", ha="center", va="center")
        return
    width = min(WIDTH, 1.6 * COLUMN + (len(panels) - 1) * 50 * MM)
    with figure(width, (19 + 9.5 * len(others)) * MM, out) as fig:
        grid = fig.subplots(1, len(panels), sharex=True, sharey=True, squeeze=False)[0]
        for axes, panel in zip(grid, panels, strict=True):
            plot_panel(axes, panel, others, reference, colours, brief=len(panels) > 1)
        grid[0].set_yticks(range(len(others)), [wrapped(labels[arm]) for arm in others])
        grid[0].set_ylim(len(others) - 0.5, -0.6)
        explained = "square: mean and 95% interval; p: Wilcoxon signed-rank test, Holm-corrected if exploratory"
        fig.supxlabel(f"Difference in Dice from “{labels[reference]}”, paired by patient\n{explained}", fontsize=7)


def plot_panel(
    axes: Axes, panel: Panel, others: list[str], reference: str, colours: dict[str, str], brief: bool
) -> None:
    """One number of annotated patients: arms from top to bottom."""
    axes.axvline(0, color=colours[reference], linewidth=0.8)
    for place, arm in enumerate(others):
        if arm not in panel.arms:
            continue
        row, colour = panel.arms[arm], colours[arm]
        own = panel.scores[arm] - panel.scores[reference]
        axes.scatter(own, np.full(len(own), place - 0.2), s=7, color=colour, alpha=0.4, linewidths=0)
        axes.plot([row["difference_low"], row["difference_high"]], [place, place], color=colour, linewidth=1.4)
        axes.plot(row["difference"], place, "s", color=colour, markersize=4.5)
        axes.text(1.02, place, words(row, brief), transform=axes.get_yaxis_transform(), va="center", fontsize=6)
    axes.set_title(panel.title, loc="left")
    across(axes)


def words(row: dict[str, Any], brief: bool) -> str:
    """Difference, interval (unless brief) and corrected p-value of a row of `arms.csv`."""
    p = float(row["p_holm"])
    text = f"{row['difference']:+.3f}"
    if not brief and not np.isnan(row["difference_low"]):
        text += f" [{row['difference_low']:+.3f}, {row['difference_high']:+.3f}]"
    text = text.replace("-", "−")
    return text if np.isnan(p) else text + ("\np < 0.001" if p < 0.001 else f"\np = {p:.3f}")
