"""Drawn images judged, each by itself and all together, and the tables that sum it up.

Each measure is taken of real patches too: that is what perfect images would reach.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from stedm.config import Evaluation
from stedm.errors import UserError
from stedm.evaluation.features import feature_extractor, features_of
from stedm.evaluation.layout import layout_overlap, network_predictor
from stedm.evaluation.neighbours import closest_patches, diversity
from stedm.evaluation.sets import COLUMNS, compare_sets
from stedm.evaluation.statistics import SPLIT, interval
from stedm.evaluation.style import style_fidelity
from stedm.files import file_fingerprint, provenance, write_json, written_whole
from stedm.splits import read_split, slides_of
from stedm.store import PatchFile, patch_file
from stedm.tables import read_table


def judge_images(
    options: Evaluation,
    manifest: Path,
    shards: Sequence[Path],
    split: Path,
    patches: Path,
    judge: Path | None,
    seed: int,
    out: Path,
) -> pd.DataFrame:
    """Judge drawn images and write two tables, of single images and of all together.

    Args:
        options: how many images are judged (drawn at random where there are more), how many at a time, and by which
            features they are compared.
        manifest: rows `image, layout_slide, layout_patch, style_slide`.
        shards: patch files of the drawn images; their first coordinate is the image's number in the manifest.
        split: the split that the generator was trained on.
        patches: folder of the slides' patch files.
        judge: folder of the segmentation network that judges layouts; None: they are not judged.
        seed: of the draw.
        out: folder of the tables.

    Writes `sets.csv` (`compare_sets`) and `images.csv`, one row an image: image, layout_slide, style_slide,
    style_patient; layout_iou, its mean over the layout's classes, and iou_{class}; distance_to_source and
    distance_to_annotated, the distances to the mean statistics of the style's slide and of the annotated patients, and
    nearer_to_source, which is smaller; nearest_patient, whose slide among all training slides is nearest, and
    nearest_is_source, of colour and texture; the same of each with the prefixes `colour_` and `texture_`; chance, how
    often a slide at random would be of the source; closest_slide, closest_patch and closest_distance, the closest
    training patch, and close_to_training (`closest_patches`); diversity (`diversity`). With the prefix `real_` the same
    of real patches: of the patch that the layout is from for layouts, of those of the style's slide for all else. What
    cannot be told is empty; without features their columns are not there.

    Returns:
        What is written in `images.csv`.

    Raises:
        UserError: shards and manifest do not belong together; the features' weights cannot be had.
    """
    table = read_table(manifest)
    shard_files = [PatchFile(path) for path in shards]
    places = {int(image): (file, index) for file in shard_files for index, image in enumerate(file.coords[:, 0])}
    if not set(places) <= set(table["image"]):
        raise UserError(f"{manifest}: its images are not those of {shards[0].parent}; draw the shards again")
    table = table[table["image"].isin(places)]
    rng = np.random.default_rng(seed % 2**32)
    chosen = np.sort(rng.permutation(len(table))[: options.evaluated_images])
    table = table.iloc[chosen].reset_index(drop=True)
    found = [places[image] for image in table["image"]]
    images = np.stack([file.image(index) for file, index in found])
    layouts = np.stack([file.labels(index) for file, index in found])
    class_names = [str(name) for name in shard_files[0].attributes["class_names"]]

    roles = read_split(split)
    patients = dict(zip(roles["slide"], roles["patient"], strict=True))
    files = {slide: patch_file(patches, slide) for slide in slides_of(roles, "annotated", "unannotated")}
    styles = table["style_slide"].tolist()
    owners = [patients.get(slide, "") for slide in styles]
    sources = list(zip(styles, owners, strict=True))
    origins = list(zip(table["layout_slide"], table["layout_patch"].astype(int), strict=True))
    real_images = np.stack([files[slide].image(patch) for slide, patch in origins])
    real_layouts = np.stack([files[slide].labels(patch) for slide, patch in origins])
    predict = network_predictor(judge) if judge else None
    counts = pd.Series([patients[slide] for slide in files]).value_counts()
    parts = [
        table[["image", "layout_slide", "style_slide"]].assign(style_patient=owners),
        layout_overlap(images, layouts, class_names, predict, options.batch_size),
        layout_overlap(real_images, real_layouts, class_names, predict, options.batch_size).add_prefix("real_"),
        style_fidelity(images, sources, list(files.values()), patients, slides_of(roles, "annotated")),
        pd.DataFrame({"chance": [counts.get(patient, np.nan) / len(files) for patient in owners]}),
    ]
    sets = pd.DataFrame(columns=COLUMNS)
    if extract := feature_extractor(options.features, judge):
        known = {slide: features_of(file.images(), extract) for slide, file in files.items()}
        batches = np.array_split(images, np.arange(options.batch_size, len(images), options.batch_size))
        drawn = features_of(batches, extract)
        parts += [closest_patches(drawn, styles, list(files.values()), known), diversity(drawn, styles, known)]
        sets = compare_sets(drawn, styles, known, options.features, seed)
    judged = pd.concat(parts, axis=1)
    with written_whole(out) as temporary:
        temporary.mkdir()
        judged.to_csv(temporary / "images.csv", index=False, float_format="%.6g")
        sets.to_csv(temporary / "sets.csv", index=False, float_format="%.6g")
        inputs = {file.slide: file.fingerprint for file in files.values()}
        inputs |= {f"shard {file.path.stem}": file.fingerprint for file in shard_files}
        if judge:
            inputs["judge"] = file_fingerprint(judge / "model.safetensors")
        write_json(temporary / "provenance.json", provenance(options.model_dump(mode="json"), inputs, seed))
    return judged


MEANS = {
    "layout_iou": "layout_iou",
    "share_nearer_to_source": "nearer_to_source",
    "share_nearest_is_source": "nearest_is_source",
    "chance_nearest_is_source": "chance",
    "colour_share_nearer_to_source": "colour_nearer_to_source",
    "colour_share_nearest_is_source": "colour_nearest_is_source",
    "texture_share_nearer_to_source": "texture_nearer_to_source",
    "texture_share_nearest_is_source": "texture_nearest_is_source",
    "diversity": "diversity",
    "closest_distance": "closest_distance",
    "share_close_to_training": "close_to_training",
}
"""Metric of the summary, and the column whose mean it is; besides, the IoU of each class."""
OF_FEATURES = ("diversity", "closest_distance", "share_close_to_training")


def summarise_quality(options: Evaluation, folders: Sequence[Path], seed: int, out: Path) -> pd.DataFrame:
    """Quality by generator and number of annotated patients, over all repeats, of drawn images and of real patches.

    Images in one style are not independent: intervals are bootstrap intervals over style patients. FID and its kin have
    one value for each repeat; their mean has no interval, KID has the deviation over its subsets.

    Args:
        options: number of bootstrap resamples, name of the features.
        folders: of `judge_images`, named {generator}/{split}.
        seed: of the bootstrap.
        out: the table's file.

    Returns:
        generator, annotated_patients, metric, images_of (drawn, real), value, low, high, deviation, images (how many;
        in each of the sets for FID and its kin), features (their name, where the metric is of features).
    """
    found: dict[tuple[str, int], list[Path]] = {}
    for folder in folders:
        number = SPLIT.fullmatch(folder.name)
        if not number:
            raise UserError(f"{folder}: is not named {{generator}}/n{{annotated}}-r{{repeat}}; move it there")
        found.setdefault((folder.parent.name, int(number[1])), []).append(folder)
    tables = []
    for (generator, annotated), some in sorted(found.items()):
        images = pd.concat([read_table(folder / "images.csv") for folder in some], ignore_index=True)
        sets = pd.concat([read_table(folder / "sets.csv") for folder in some], ignore_index=True)
        table = pd.concat([means(options, images, seed), means_of_sets(sets)], ignore_index=True)
        tables.append(table.assign(generator=generator, annotated_patients=annotated))
    first = ["generator", "annotated_patients", "metric", "images_of", "value", "low", "high", "deviation", "images"]
    summary = pd.concat(tables, ignore_index=True)[[*first, "features"]]
    with written_whole(out) as temporary:
        summary.to_csv(temporary, index=False, float_format="%.6g")
    return summary


def means(options: Evaluation, images: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Means over images, with intervals, of what is told of each."""
    classes = {f"layout_{name}": name for name in images.columns if re.match("iou_", name)}
    rows = []
    for metric, column in (MEANS | classes).items():
        for images_of, name in (("drawn", column), ("real", f"real_{column}")):
            if name not in images:
                continue
            values = pd.to_numeric(images[name].replace({"True": 1, "False": 0, True: 1, False: 0}))
            value, low, high = clustered(values, images["style_patient"], options.bootstrap, seed)
            rows.append(
                {"metric": metric, "images_of": images_of, "value": value, "low": low, "high": high,
                 "deviation": np.nan, "images": int(values.notna().sum()),
                 "features": options.features if metric in OF_FEATURES else ""}
            )  # fmt: skip
    return pd.DataFrame(rows)


def means_of_sets(sets: pd.DataFrame) -> pd.DataFrame:
    """Means over repeats of what is told of all images together."""
    groups = sets.groupby(["metric", "images_of", "features"], sort=False, as_index=False)
    return groups[["value", "deviation", "images"]].mean().assign(low=np.nan, high=np.nan)


def clustered(values: pd.Series, clusters: pd.Series, resamples: int, seed: int) -> tuple[float, float, float]:
    """Mean of values and its 95% bootstrap interval over clusters; a value without cluster ("") is one by itself."""
    present = values.notna()
    names = clusters[present].where(clusters[present] != "", values[present].index.to_series().astype(str))
    groups = values[present].groupby(names)

    def mean(sums: np.ndarray, counts: np.ndarray, axis: int = -1) -> np.ndarray:
        return sums.sum(axis) / counts.sum(axis)

    return interval(mean, (groups.sum().to_numpy(float), groups.count().to_numpy(float)), resamples, seed)
