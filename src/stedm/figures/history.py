"""Training curves."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

from stedm.config import HistoriesOptions
from stedm.figures.style import MM, WIDTH, arm_colours, figure, wrapped
from stedm.tables import HISTORY


def plot_histories(
    options: HistoriesOptions, generators: Sequence[Path], networks: Sequence[Path], *, out: Path
) -> None:
    """Plot loss over steps: a panel per kind of network, a colour per generator or arm, a line per training.

    Args:
        options: labels of the arms, and the reference arm, which is grey as in the other figures.
        generators: folders of generators, each with `history.csv`.
        networks: folders of segmentation networks, each with `history.csv`.
        out: PNG file; a PDF is written next to it.
    """
    labels = {name: arm.label for name, arm in options.arms.items()}
    panels = {
        "generators": read_histories(generators, {}),
        "segmentation networks": read_histories(networks, labels),
    }
    panels = {title: histories for title, histories in panels.items() if histories}
    with figure(WIDTH, 48 * MM, out) as fig:
        grid = fig.subplots(1, len(panels), squeeze=False)[0]
        for axes, (title, histories) in zip(grid, panels.items(), strict=True):
            plot_panel(axes, histories, labels[options.reference_arm])
            axes.set_title(title, loc="left")


def read_histories(folders: Sequence[Path], labels: Mapping[str, str]) -> dict[str, list[pd.DataFrame]]:
    """The histories of all trainings of a generator or arm, by its label or, without one, its name."""
    histories: dict[str, list[pd.DataFrame]] = {}
    for folder in folders:
        table = HISTORY.read(folder / "history.csv")
        name = table["name"].iloc[0]
        histories.setdefault(labels.get(name, name), []).append(table)
    return histories


def plot_panel(axes: Axes, histories: Mapping[str, Sequence[pd.DataFrame]], reference: str) -> None:
    """One kind of network."""
    colours = arm_colours(list(histories), reference)
    handles = []
    for name, tables in histories.items():
        for table in tables:
            (line,) = axes.plot(table["step"], table["loss"], color=colours[name], linewidth=0.8, alpha=0.8)
        handles.append(line)  # one entry in the legend for all trainings
    axes.set(xlabel="step", ylabel="loss", yscale="log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    texts = list(map(wrapped, histories))
    places = list(map(str, range(len(texts))))
    legend = axes.legend(handles, places, loc="upper left", bbox_to_anchor=(1, 1), borderaxespad=0, handlelength=1.2)
    for entry, text in zip(legend.get_texts(), texts, strict=True):
        entry.set_text(text)  # a label that begins with "_" would be left out
    axes.grid(linewidth=0.3, color="#d9d9d9")
