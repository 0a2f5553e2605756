"""What the tests of figures share: the figures that were plotted, and tables to plot."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from stedm.config import Arm, ClassesOptions, Evaluation, TissueClass
from stedm.evaluation.statistics import compare_pairs, summarise

NONE_ABSENT = {"absent_patients": 0, "absent_false_positive_rate": np.nan}
ARMS = {
    "real": Arm(label="real only"),
    "stain": Arm(label="real + stain augmentation", augmentation="stain"),
    "unstyled": Arm(label="real + synthetic without style"),
    "styled": Arm(label="real + styled synthetic"),
    "all": Arm(label="all annotations (upper bound)", annotations="all"),
}


@pytest.fixture
def study_arms():
    return ARMS


@pytest.fixture
def classes():
    stroma, tumour = TissueClass(name="stroma", color="#e8a0bf"), TissueClass(name="tumour", color="#6a3d9a")
    return ClassesOptions(classes=[stroma, tumour])


@pytest.fixture
def figures(monkeypatch):
    """The figures that were written."""
    saved = []
    save = Figure.savefig

    def record(self, *args, **kwargs):
        if self not in saved:
            saved.append(self)
        return save(self, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", record)
    return saved


@pytest.fixture
def tables(tmp_path):
    """Makes patients.csv and arms.csv from made-up scores; returns their paths and the scores."""

    def make(numbers=(2, 4, 8), patients=10):
        rng = np.random.default_rng(0)
        scores, summaries = [], []
        options = Evaluation(bootstrap=200, reference_arm="real")
        for number in numbers:
            values = rng.uniform(0.3, 0.99, (patients, len(ARMS))).round(4)
            wide = pd.DataFrame(values, index=[f"P{n}" for n in range(patients)], columns=list(ARMS))
            runs = pd.concat({0: wide}, axis=1).swaplevel(axis=1)  # patients × (arm, training)
            compared = compare_pairs(runs, ARMS, options, 0)
            summary = summarise(runs, compared, ARMS, options, 0)
            summaries.append(summary.assign(annotated_patients=number, **NONE_ABSENT))
            long = wide.rename_axis("patient").reset_index().melt("patient", var_name="arm", value_name="score")
            scores.append(long.assign(annotated_patients=number))
        paths = tmp_path / "patients.csv", tmp_path / "arms.csv"
        for path, table in zip(paths, (pd.concat(scores), pd.concat(summaries)), strict=True):
            table.to_csv(path, index=False)
        return *paths, pd.concat(scores)

    return make


def boxes(fig):
    """All visible texts with their boxes in pixels (matplotlib keeps labels of ticks that are out of view)."""
    found = []
    draw = Text.draw

    def record(self, renderer, *args, **kwargs):
        if self.get_visible() and self.get_text().strip():
            found.append(self)
        return draw(self, renderer, *args, **kwargs)

    canvas = FigureCanvasAgg(fig)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Text, "draw", record)
        canvas.draw()
    return [(item.get_text(), item.get_window_extent(canvas.get_renderer())) for item in dict.fromkeys(found)]


@pytest.fixture
def texts():
    """Gives the visible texts of a figure."""
    return lambda fig: [text for text, _ in boxes(fig)]


@pytest.fixture
def check_layout():
    """Checks that no text lies over another and none outside the figure."""

    def check(fig):
        found = boxes(fig)
        whole = fig.bbox
        for text, box in found:
            inside = box.x0 >= -1 and box.y0 >= -1 and box.x1 <= whole.x1 + 1 and box.y1 <= whole.y1 + 1
            assert inside, f"{text!r} at {box} is outside {whole}"
        for (one, a), (other, b) in combinations(found, 2):
            width, height = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
            assert width <= 1 or height <= 1, f"{one!r} lies over {other!r}"

    return check
