"""The tables of arms and patients as figures take them: one panel per number of annotated patients."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from stedm.tables import ARMS, PATIENTS


@dataclass(frozen=True)
class Panel:
    """Scores with one number of annotated patients."""

    annotated: int
    scores: pd.DataFrame
    """Patients × arms."""
    arms: dict[str, dict[str, Any]]
    """Rows of `arms.csv` by arm."""

    @property
    def title(self) -> str:
        return f"{self.annotated} annotated patient{'s' if self.annotated > 1 else ''}"


def read_panels(patients: Path, arms: Path) -> tuple[list[Panel], dict[str, str], str | None]:
    """Panels from `patients.csv` and `arms.csv`, the arms' labels in the order of the table, and the reference arm."""
    scores, table = PATIENTS.read(patients), ARMS.read(arms)
    labels = {str(row["arm"]): str(row["label"]) for row in table.to_dict("records")}
    reference = next(iter(table.loc[table["difference"].isna(), "arm"]), None)  # which the others are compared to
    panels = []
    for annotated in sorted(set(table["annotated_patients"])):
        wide = scores[scores["annotated_patients"] == annotated].pivot_table(
            index="patient", columns="arm", values="score"
        )
        rows = table[table["annotated_patients"] == annotated].to_dict("records")
        panels.append(Panel(int(annotated), wide, {str(row["arm"]): dict(row) for row in rows}))
    return panels, labels, reference


def across(axes: Axes) -> None:
    """Axes for rows of dots, of which only the axis of values is visible."""
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x", linewidth=0.3, color="#d9d9d9")
    axes.set_axisbelow(True)
