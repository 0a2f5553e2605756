"""Tables for people to read, in a terminal and as pages of the report."""

import html
from pathlib import Path

import pandas as pd

from stedm.errors import UserError
from stedm.files import written_whole
from stedm.tables import ARMS, IMAGE_QUALITY

STYLE = """\
body { font: 14px system-ui, sans-serif; margin: 1.5em; }
table { border-collapse: collapse; }
th, td { padding: 0.3em 0.9em; text-align: right; white-space: nowrap; border-bottom: 1px solid #ddd; }
th { border-bottom: 2px solid #444; }
td:first-child, th:first-child { text-align: left; }
"""


def readable(path: Path) -> pd.DataFrame:
    """`arms.csv` or `image_quality.csv` as text: a row per arm or metric, values with 95% interval or ± SD.

    Raises:
        UserError: the file is neither.
    """
    try:
        columns = pd.read_csv(path, nrows=0).columns
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as a table: {error}; make it with `stedm statistics`") from error
    if "dice_mean" in columns:
        return readable_arms(ARMS.read(path))
    if "metric" in columns:
        return readable_quality(IMAGE_QUALITY.read(path))
    raise UserError(f"{path}: is neither arms.csv nor image_quality.csv; name one of these")


def readable_arms(table: pd.DataFrame) -> pd.DataFrame:
    text = pd.DataFrame(
        {
            "arm": table["label"],
            "annotated": table["annotated_patients"],
            "patients": table["patients"],
            "Dice, mean": with_interval(table, "dice_mean", "dice_mean_low", "dice_mean_high"),
            "SD": with_interval(table, "dice_sd", "dice_sd_low", "dice_sd_high"),
            "worst": table["dice_min"].map("{:.3f}".format),
            "difference": with_interval(table, "difference", "difference_low", "difference_high"),
        }
    )
    if table["absent_patients"].any():
        text["false positives where absent"] = table["absent_false_positive_rate"].map("{:.3f}".format)
    return text


def readable_quality(table: pd.DataFrame) -> pd.DataFrame:
    """A row per metric and number of annotated patients, a column per source and one for real patches.

    Sources are compared with nearly the same real patches; those of the first source are shown.
    """
    real = table["images_of"] == "real"
    text = table["deviation"].map(" ± {:.3f}".format).where(table["deviation"].notna(), "")
    table = table.assign(
        text=with_interval(table, "value", "low", "high") + text, column=table["source"].mask(real, "real patches")
    )
    index = ["metric", "annotated_patients"]
    wide = table.pivot_table(index=index, columns="column", values="text", aggfunc="first", sort=False)
    wide = wide[sorted(wide, key=lambda name: name != "real patches")]
    counts = table[~real].groupby(index)["images"].agg(["min", "max"]).reindex(wide.index).fillna(0).astype(int)
    wide["images"] = [f"{low}" if low == high else f"{low}–{high}" for low, high in counts.to_numpy()]
    wide["features"] = table.groupby(index)["features"].first()
    return wide.fillna("–").rename_axis(columns=None).reset_index().rename(columns={"annotated_patients": "annotated"})


def with_interval(table: pd.DataFrame, value: str, low: str, high: str) -> "pd.Series[str]":
    """Value and interval as text: – for a missing value, the value alone where the interval is missing."""
    interval = " [" + table[low].map("{:.3f}".format) + ", " + table[high].map("{:.3f}".format) + "]"
    text = table[value].map("{:.3f}".format) + interval.where(table[low].notna(), "")
    return text.where(table[value].notna(), "–")


def write_page(table: pd.DataFrame, title: str, out: Path) -> None:
    """Write the table as a web page, which the report shows."""
    body = table.to_html(index=False, border=0, escape=True)
    page = f'<!doctype html><meta charset="utf-8"><title>{html.escape(title)}</title><style>{STYLE}</style>{body}\n'
    with written_whole(out) as temporary:
        temporary.write_text(page, encoding="utf-8")
