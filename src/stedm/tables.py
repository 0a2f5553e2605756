"""Our own tables, read so that names stay names: "001" is not a number, and a patient called "NA" is not missing."""

from pathlib import Path

import pandas as pd

TEXT = (
    *("study", "slide", "patient", "group", "split", "role", "status", "problem"),
    *("arm", "against", "family", "label", "generator", "class", "metric", "true", "predicted"),
    *(
        "layout_slide",
        "style_slide",
        "style_patient",
        "style_patches",
        "nearest_patient",
        "colour_nearest_patient",
        "texture_nearest_patient",
    ),
    *("layout_class", "pairing", "closest_slide", "images_of", "features"),
)
"""Columns of names and words."""


def read_table(path: Path) -> pd.DataFrame:
    """A CSV with its columns of names as text, never NaN; other columns as pandas parses them, empty fields NaN."""
    written = pd.read_csv(path, dtype=str, keep_default_na=False)
    return pd.read_csv(path).assign(**{name: written[name] for name in written.columns if name in TEXT})
