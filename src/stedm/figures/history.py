"""Training curves."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

from stedm.figures.style import MM, WIDTH, arm_colours, figure, wrapped


def draw_histories(histories: Mapping[str, Mapping[str, Sequence[Path]]], reference: str | None, out: Path) -> None:
    """Loss over steps: a panel for each kind of network, a colour for each network, a line for each of its runs.

    Args:
        histories: title of a panel → name of a network → its runs' `history.csv` (step, loss).
        reference: the network that is grey, as it is in the other figures.
        out: PNG file; a PDF is written beside it.
    """
    with figure(WIDTH, 48 * MM, out) as drawn:
        grid = drawn.subplots(1, len(histories), squeeze=False)[0]
        for axes, (title, networks) in zip(grid, histories.items(), strict=True):
            colours = arm_colours(list(networks), reference if reference in networks else None)
            for name, paths in networks.items():
                label = wrapped(name)
                for path in paths:
                    table = pd.read_csv(path)
                    axes.plot(table["step"], table["loss"], color=colours[name], linewidth=0.8, alpha=0.8, label=label)
                    label = "_"  # one entry of the legend for all runs
            axes.set(xlabel="step", ylabel="loss", yscale="log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_minor_locator(NullLocator())
            axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axes.set_title(title, loc="left")
            axes.legend(loc="upper left", bbox_to_anchor=(1, 1), borderaxespad=0, handlelength=1.2)
            axes.grid(linewidth=0.3, color="#d9d9d9")
