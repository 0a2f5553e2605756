"""The study's tables as people read them: words, units and directions for columns, values with 95% intervals."""

from collections.abc import Callable, Mapping, Sequence

import pandas as pd

from stedm.config import Arm
from stedm.figures.names import Names
from stedm.report.wording import counted, number, signed, verdict
from stedm.sheet import ROLES
from stedm.splits import EXCLUDED

LEFT_OUT = {"quarantined": "cannot be read", "no tissue": "no tissue was found", "error": "wrong in the sheet"}
"""Why a slide is left out, by its status."""
CHANGE = "change ↑ (95% interval)"
"""Of the mean Dice."""
FEATURES = {"segmenter": "segmentation network"}
"""Networks in whose features images are compared, in words; others have names of their own."""
MEASURES = {
    "layout_iou": "agreement with the layout, IoU ↑",
    "chance_nearest_is_own_patient": "the style's patient is nearest, share that chance would give",
    "share_nearest_is_own_patient": "the style's patient is nearest, share ↑",
    "share_nearer_to_own_slide": "the style's slide is nearer than the annotated patients, share ↑",
    "diversity": "distance between images in one style, cosine (best: as real)",
    "closest_distance": "distance to the closest training patch, cosine (best: as real)",
    "share_close_to_training": "closer to a training patch than 95% of real ones are, share ↓",
    "fid": "FID ↓",
    "kid": "KID ↓ (± SD over subsets)",
    "precision": "precision ↑",
    "recall": "recall ↑",
}
"""Metrics of `image_quality.csv` in words; others are spelled as they are."""
PARTS = {
    "structure_": "by structure",
    "moments_": "by colour and spectrum",
    "colour_": "by colour",
    "spectrum_": "by spectrum",
    "layout_iou_": "",
}
"""Prefixes of metrics that say which part of an image, or which class, is measured."""


def roles_table(splits: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """How many patients and slides have which role: the smallest and the largest number of all splits."""
    rows = []
    for role in ROLES:
        some = [split[split["role"] == role] for split in splits]
        if not any(map(len, some)):
            continue
        row = {"role": role, "patients": span([table["patient"].nunique() for table in some])}
        row["slides"] = span([len(table) for table in some])
        if len(splits) > 1:
            row["patients in any split"] = str(pd.concat(some)["patient"].nunique())
        rows.append(row)
    return pd.DataFrame(rows)


def span(counts: Sequence[int]) -> str:
    return f"{min(counts)}" if min(counts) == max(counts) else f"{min(counts)}–{max(counts)}"


def left_out_table(check: pd.DataFrame, splits: Sequence[pd.DataFrame], names: Names) -> pd.DataFrame:
    """Slides that no split uses, and why."""
    unused = set.intersection(*(set(split.loc[split["role"] == EXCLUDED, "slide"]) for split in splits))
    rows = [
        {"slide": names.slide(str(row["slide"])), "left out because": LEFT_OUT.get(row["status"], "it has no patches")}
        for row in check.to_dict("records")
        if row["slide"] in unused
    ]
    return pd.DataFrame(rows, columns=["slide", "left out because"])


def arms_table(table: pd.DataFrame, arms: Mapping[str, Arm], reference: str) -> pd.DataFrame:
    """Rows of `arms.csv` for one number of annotated patients."""
    upper = [arms[name].annotations == "all" for name in table["arm"]]
    annotated = table["annotated_patients"].map(lambda count: counted(count, "patient"))
    text = pd.DataFrame(
        {
            "training": table["label"] + (table["arm"] == reference).map({True: " (reference)", False: ""}),
            "annotated": annotated.mask(pd.Series(upper, table.index), "all patients"),
            "mean Dice ↑ (95% interval)": with_interval(table, "dice_mean"),
            "SD ↓": table["dice_sd"].map("{:.3f}".format).where(table["dice_sd"].notna(), "–"),
            "worst ↑": table["dice_min"].map("{:.3f}".format),
            CHANGE: with_interval(table, "difference", signed),
        }
    )
    if table["absent_patients"].any():
        text["false positives where the class is absent ↓"] = table["absent_false_positive_rate"].map("{:.1%}".format)
    return text


def comparisons_table(table: pd.DataFrame, labels: Mapping[str, str]) -> pd.DataFrame:
    """Rows of `comparisons.csv`."""
    text = pd.DataFrame(
        {
            "training": table["arm"].map(labels),
            "compared with": table["against"].map(labels),
            "annotated patients": table["annotated_patients"].astype(str),
            "kind": table["family"].where(table["family"].isin(["headroom", "claim"]), "exploratory"),
            CHANGE: with_interval(table, "difference", signed),
            "change of SD ↓ (95% interval)": with_interval(table, "sd_difference", signed),
            "p": table["p_value"].map(number),
            "p, corrected": table["p_holm"].map(number),
            "shown": [verdict(row, "better", "worse") for row in table.to_dict("records")],
        }
    )
    return without_constants(text, "annotated patients", "compared with")


def patients_table(scores: pd.DataFrame, labels: Mapping[str, str], names: Names) -> pd.DataFrame:
    """Dice of patients (rows) by arm (columns), as many arms as there are labels."""
    text = scores[list(labels)].map("{:.3f}".format, na_action="ignore").fillna("–").rename(columns=labels)
    text.insert(0, "patient", [names.patient(str(patient)) for patient in scores.index], allow_duplicates=True)
    return text


def quality_table(table: pd.DataFrame) -> pd.DataFrame:
    """`image_quality.csv`: a row per metric and number of annotated patients, a column per source.

    The first column is for real patches. Sources are compared with nearly the same ones; those of the first source are
    shown.
    """
    real = table["images_of"] == "real"
    deviation = table["deviation"].map(" ± {:.3f}".format).where(table["deviation"].notna(), "")
    table = table.assign(
        text=with_interval(table, "value") + deviation, column=table["source"].mask(real, "real patches")
    )
    index = ["metric", "annotated_patients"]
    wide = table.pivot_table(index=index, columns="column", values="text", aggfunc="first", sort=False)
    wide = wide[sorted(wide, key=lambda name: name != "real patches")].fillna("–")
    counts = table[~real].groupby(index)["images"].agg(["min", "max"]).reindex(wide.index).fillna(0).astype(int)
    wide["images"] = [span(pair) for pair in counts.to_numpy().tolist()]
    wide["features"] = table.groupby(index)["features"].first()
    text = wide.rename_axis(columns=None).reset_index()
    text["metric"] = text["metric"].map(measure)
    text["features"] = text["features"].replace(FEATURES)
    text = without_constants(text, "annotated_patients", "features")
    text = text.rename(columns={"metric": "what is measured", "annotated_patients": "annotated patients"})
    return text.rename(columns=spelled)


def spelled(source: str) -> str:
    """The name of a source as people read it."""
    return source.replace("_", " ")


def without_constants(text: pd.DataFrame, *names: str) -> pd.DataFrame:
    """The table as texts, without those of these columns in which all values are the same."""
    return text.drop(columns=[name for name in names if len(set(text[name])) == 1]).astype(str)


def measure(metric: str) -> str:
    """A metric of `image_quality.csv` in words."""
    for prefix, part in PARTS.items():
        if metric.startswith(prefix):
            rest = metric.removeprefix(prefix)
            return f"{measure(rest)}, {part}" if part else f"{MEASURES['layout_iou']}: {rest}"
    return MEASURES.get(metric, metric.replace("_", " "))


def with_interval(table: pd.DataFrame, name: str, form: Callable[[float], str] = "{:.3f}".format) -> "pd.Series[str]":
    """Value and interval as text: – for a missing value, the value alone where the interval is missing."""
    ends = ["low", "high"] if name == "value" else [f"{name}_low", f"{name}_high"]
    low, high = (table[end].map(form) for end in ends)
    between = " to " if form is signed else "–"
    text = table[name].map(form) + (" (" + low + between + high + ")").where(table[ends[0]].notna(), "")
    return text.where(table[name].notna(), "–")
