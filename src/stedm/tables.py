"""Our own tables: what columns each has and of what type, said once, for those who write and those who read.

Names stay names when a table is read: "001" is not a number, and a patient called "NA" is not missing. Text that a
spreadsheet would take for a formula is written with an apostrophe before it, as spreadsheets themselves ask for.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from pandas.api.types import is_numeric_dtype

from stedm.errors import UserError
from stedm.files import check_regular
from stedm.seals import check_unchanged

TEXT, WHOLE, COUNT, NUMBER, FLAG = "str", "int64", "Int64", "float64", "boolean"
"""Text, never missing; a whole number; one that may be missing; a number or NaN; true, false or missing."""


@dataclass(frozen=True)
class Table:
    """A kind of CSV table.

    Attributes:
        made_by: command that writes it.
        columns: types of the columns by name, in order.
        optional: types of columns that only some studies have, such as one for each class.
    """

    made_by: str
    columns: Mapping[str, str]
    optional: Mapping[str, str] | None = None

    def read(self, path: Path) -> pd.DataFrame:
        """Read a table of this kind; columns that are not listed have the types that pandas finds.

        Raises:
            UserError: it is not such a table, or was changed or cut short after it was written.
        """
        check_regular(path)
        check_unchanged(path)
        known = {**self.columns, **(self.optional or {})}
        numbers = {name: [""] for name, kind in known.items() if kind != TEXT}
        try:
            if path.stat().st_size > LARGEST:
                raise ValueError(f"it has more than {LARGEST:,} bytes")
            with path.open("rb") as file:
                if len(file.readline(LONGEST_HEADER)) == LONGEST_HEADER:
                    raise ValueError(f"its first line has more than {LONGEST_HEADER:,} bytes")
            header = pd.read_csv(path, nrows=0).columns
            others = {name: [""] for name in header if name not in known}
            table = pd.read_csv(path, dtype=known, keep_default_na=False, na_values=numbers | others)
        except ValueError as error:
            raise UserError(f"{path}: cannot be read as a table ({error}); make it with `{self.made_by}`") from error
        if missing := [name for name in self.columns if name not in table.columns]:
            raise UserError(f"{path}, line 1: has no column {', '.join(missing)}; make it with `{self.made_by}`")
        return changed_texts(table, plain)

    def write(self, table: pd.DataFrame, path: Path, digits: int | None = None) -> None:
        """Write a table of this kind, its listed columns first, numbers with so many significant digits (all)."""
        others = [name for name in table.columns if name not in self.columns]
        ordered = changed_texts(table[[*self.columns, *others]], safe_for_spreadsheets)
        ordered.to_csv(path, index=False, float_format=None if digits is None else f"%.{digits}g")


LARGEST, LONGEST_HEADER = 2**28, 2**16
"""Bytes of a table, and of its first line."""
FORMULA = re.compile(r"'*[=+\-@\t\r]")
"""How a text begins that a spreadsheet computes; or that is written like one, with apostrophes."""


def changed_texts(table: pd.DataFrame, change: Callable[[str], str]) -> pd.DataFrame:
    """A table with all its texts changed; other values, missing ones and types stay."""
    changed = table.copy()
    for name in [name for name in table if not is_numeric_dtype(table[name])]:
        changed[name] = [change(value) if isinstance(value, str) else value for value in table[name]]
        changed[name] = changed[name].astype(table[name].dtype)
    return changed


def safe_for_spreadsheets(text: str) -> str:
    """The same text, with an apostrophe before it where it looks like a formula."""
    return f"'{text}" if FORMULA.match(text) else text


def plain(text: str) -> str:
    """Inverse of `safe_for_spreadsheets`."""
    return text[1:] if text.startswith("'") and FORMULA.match(text) else text


RUN = {"study": TEXT, "split": TEXT, "annotated_patients": WHOLE, "repeat": WHOLE}
NETWORK_RUN = {**RUN, "arm": TEXT, "seed": WHOLE}
SOURCE_RUN = {**RUN, "source": TEXT}
INTERVAL = {"value": NUMBER, "low": NUMBER, "high": NUMBER}

PSEUDONYMS = Table(
    "stedm figures pseudonyms",
    {"slide": TEXT, "patient": TEXT, "slide_pseudonym": TEXT, "patient_pseudonym": TEXT},
)
CHECK = Table("stedm check", {"slide": TEXT, "patient": TEXT, "status": TEXT, "problem": TEXT})
SPLIT = Table(
    "stedm splits make",
    {"slide": TEXT, "patient": TEXT, "group": TEXT, "role": TEXT, "labelled": FLAG},
    {"fingerprint": TEXT},
)
PLAN = Table(
    "stedm synthesis plan",
    {
        "source": TEXT,
        "split": TEXT,
        "image": WHOLE,
        "shard": WHOLE,
        "pairing": TEXT,
        "group": TEXT,
        "layout_class": TEXT,
        "layout_slide": TEXT,
        "layout_patch": WHOLE,
        **dict.fromkeys("abcdef", NUMBER),
        "style_slide": TEXT,
        "style_patient": TEXT,
        "style_patches": TEXT,
        "seed": WHOLE,
    },
)
MANIFEST = Table("stedm synthesis manifest", {**PLAN.columns, "kept": FLAG, "redraws": COUNT})
HISTORY = Table("stedm", {"name": TEXT, "step": WHOLE, "loss": NUMBER, "seconds": NUMBER, "images_seen": WHOLE})
CONFUSION = Table(
    "stedm evaluation score",
    {**NETWORK_RUN, "slide": TEXT, "patient": TEXT, "role": TEXT, "true": TEXT, "predicted": TEXT, "pixels": WHOLE},
)
STYLE = {
    f"{prefix}{name}": kind
    for prefix in ("moments_", "colour_", "spectrum_")
    for name, kind in {
        "distance_to_own_slide": NUMBER,
        "distance_to_annotated": NUMBER,
        "nearer_to_own_slide": FLAG,
        "nearest_patient": TEXT,
        "nearest_is_own_patient": FLAG,
    }.items()
}
IMAGES = Table(
    "stedm evaluation images",
    {
        **SOURCE_RUN,
        "image": WHOLE,
        "layout_slide": TEXT,
        "style_slide": TEXT,
        "style_patient": TEXT,
        "layout_iou": NUMBER,
        **STYLE,
        "chance": NUMBER,
    },
    {"closest_slide": TEXT, "closest_patch": WHOLE, "closest_distance": NUMBER},
)
SETS = Table(
    "stedm evaluation images",
    {
        **SOURCE_RUN,
        "images_of": TEXT,
        "metric": TEXT,
        "value": NUMBER,
        "deviation": NUMBER,
        "images": WHOLE,
        "features": TEXT,
    },
)
SCORES = Table(
    "stedm statistics arms",
    {**NETWORK_RUN, "role": TEXT, "patient": TEXT, "class": TEXT, "metric": TEXT, "value": NUMBER},
)
PATIENTS = Table("stedm statistics arms", {"annotated_patients": WHOLE, "arm": TEXT, "patient": TEXT, "score": NUMBER})
ARMS = Table(
    "stedm statistics arms",
    {
        "arm": TEXT,
        "label": TEXT,
        "annotated_patients": WHOLE,
        "patients": WHOLE,
        "trainings": WHOLE,
        "dice_mean": NUMBER,
        "dice_mean_low": NUMBER,
        "dice_mean_high": NUMBER,
        "dice_sd": NUMBER,
        "dice_sd_low": NUMBER,
        "dice_sd_high": NUMBER,
        "dice_min": NUMBER,
        "difference": NUMBER,
        "difference_low": NUMBER,
        "difference_high": NUMBER,
        "p_value": NUMBER,
        "p_holm": NUMBER,
        "absent_patients": WHOLE,
        "absent_false_positive_rate": NUMBER,
    },
)
COMPARISONS = Table(
    "stedm statistics arms",
    {
        "annotated_patients": WHOLE,
        "arm": TEXT,
        "against": TEXT,
        "family": TEXT,
        "patients": WHOLE,
        "difference": NUMBER,
        "difference_low": NUMBER,
        "difference_high": NUMBER,
        "sd_difference": NUMBER,
        "sd_difference_low": NUMBER,
        "sd_difference_high": NUMBER,
        "p_value": NUMBER,
        "p_holm": NUMBER,
    },
)
IMAGE_QUALITY = Table(
    "stedm statistics images",
    {
        "source": TEXT,
        "annotated_patients": WHOLE,
        "metric": TEXT,
        "images_of": TEXT,
        **INTERVAL,
        "deviation": NUMBER,
        "images": NUMBER,
        "features": TEXT,
    },
)
