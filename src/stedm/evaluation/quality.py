"""Generated images evaluated, each by itself and all together, and the tables that sum it up.

Each measure is taken of real patches too: that is what perfect images would reach.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from stedm import models
from stedm.config import ImageEvaluation, ImageEvaluationOptions, QualitySummaryOptions
from stedm.errors import UserError
from stedm.evaluation.features import feature_extractor, features_of
from stedm.evaluation.intervals import Interval, clustered_mean_interval, share_interval
from stedm.evaluation.layout import layout_overlap, network_predictor
from stedm.evaluation.neighbours import closest_patches, diversity
from stedm.evaluation.sets import COLUMNS, compare_sets
from stedm.evaluation.structure import described_by_structure
from stedm.evaluation.style import MOMENTS, Described, described_by_moments, style_fidelity
from stedm.files import file_fingerprint, provenance, write_json, written_whole
from stedm.shards import Shards, check_made_for
from stedm.splits import read_split, slides_of
from stedm.store import PatchFile, patch_file
from stedm.tables import IMAGE_QUALITY, IMAGES, MANIFEST, SETS


def evaluate_images(
    options: ImageEvaluationOptions,
    manifest: Path,
    shards: Sequence[Path],
    split: Path,
    patches: Path,
    *,
    out: Path,
    evaluator: Path | None = None,
    structure_network: Path | None = None,
) -> pd.DataFrame:
    """Evaluate generated images and write two tables, of single images and of all together.

    Args:
        options: how many images are evaluated (a random sample where there are more), how many at a time, and by which
            features they are compared; the run, for the tables; the seed.
        manifest: rows `image, layout_slide, layout_patch, style_slide`.
        shards: the generated images.
        split: the split that the images were made from.
        patches: folder of the slides' patch files.
        out: folder of the tables.
        evaluator: folder of the segmentation network that recognises layouts; None: they are not evaluated.
        structure_network: folder of another segmentation network, in whose features structure is compared where the
            options name no other; None: it is not.

    Writes `sets.csv` (`compare_sets`) and `images.csv`, one row per image: image, layout_slide, style_slide,
    style_patient; layout_iou, its mean over the layout's classes, and iou_{class}; with each of the prefixes
    `structure_`, `moments_`, `colour_` and `spectrum_` (`stedm.evaluation.style`) distance_to_own_slide and
    distance_to_annotated, the distances to the means of the style's slide and of the annotated patients,
    nearer_to_own_slide, whether the first is smaller, nearest_patient, whose slide among all training slides is
    nearest, and nearest_is_own_patient, whether it is the style's; chance, how often a slide at random would be of the
    style's patient; closest_slide, closest_patch and closest_distance, the closest
    training patch, and close_to_training (`closest_patches`); diversity (`diversity`). With the prefix `real_` the same
    of real patches: of the patch that the layout is from for layouts, of those of the style's slide for all else. What
    cannot be told is empty; without features their columns are not there.

    Returns:
        What is written in `images.csv`.

    Raises:
        UserError: shards and manifest do not belong together; the features' weights cannot be had.
    """
    seed, evaluation = options.seed, options.evaluation
    table = MANIFEST.read(manifest)
    generated = Shards(shards, table)
    if not set(generated.image_ids) <= set(table["image"]):
        raise UserError(f"{manifest}: its images are not those of {shards[0].parent}; generate the shards again")
    check_made_for(generated.files, [options.run.source], options.run.split)
    for network, arm in ((evaluator, options.evaluator_arm), (structure_network, options.structure_arm)):
        if network is not None:
            models.check_made_for(network, split=options.run.split, **({"arm_name": arm} if arm else {}))
    table = table[table["image"].isin(generated.image_ids)]
    rng = np.random.default_rng(seed % 2**32)
    chosen = np.sort(rng.permutation(len(table))[: evaluation.evaluated_images])
    table = table.iloc[chosen].reset_index(drop=True)
    images = np.stack([generated.image(image) for image in table["image"]])
    layouts = np.stack([generated.layout(image) for image in table["image"]])
    class_names = generated.class_names

    roles = read_split(split)
    patients = dict(zip(roles["slide"], roles["patient"], strict=True))
    files = {slide: patch_file(patches, slide) for slide in slides_of(roles, "annotated", "unannotated")}
    styles = table["style_slide"].tolist()
    owners = [patients.get(slide, "") for slide in styles]
    origins = list(zip(table["layout_slide"], table["layout_patch"].astype(int), strict=True))
    real_images = np.stack([files[slide].image(patch) for slide, patch in origins])
    real_layouts = np.stack([files[slide].labels(patch) for slide, patch in origins])
    kinds = described(evaluation, images, styles, generated.styled, list(files.values()), structure_network)
    predict = network_predictor(evaluator, options.device) if evaluator else None
    counts = pd.Series([patients[slide] for slide in files]).value_counts()
    parts = [
        table[["image", "layout_slide", "style_slide"]].assign(style_patient=owners),
        layout_overlap(images, layouts, class_names, predict, evaluation.batch_size),
        layout_overlap(real_images, real_layouts, class_names, predict, evaluation.batch_size).add_prefix("real_"),
        style_fidelity(kinds, list(zip(styles, owners, strict=True)), patients, slides_of(roles, "annotated")),
        pd.DataFrame({"chance": [counts.get(patient, np.nan) / len(files) for patient in owners]}),
    ]
    sets = pd.DataFrame(columns=COLUMNS)
    if extract := feature_extractor(evaluation.features, evaluator):
        known = {slide: features_of(file.images(), extract) for slide, file in files.items()}
        batches = np.array_split(images, np.arange(evaluation.batch_size, len(images), evaluation.batch_size))
        found = features_of(batches, extract)
        parts += [closest_patches(found, styles, list(files.values()), known), diversity(found, styles, known)]
        sets = compare_sets(found, styles, known, evaluation.features, seed)
    run = options.run.model_dump()
    evaluated = pd.concat(parts, axis=1)
    with written_whole(out) as temporary:
        temporary.mkdir()
        IMAGES.write(evaluated.assign(**run), temporary / "images.csv", digits=6)
        SETS.write(sets.assign(**run), temporary / "sets.csv", digits=6)
        inputs = {file.slide: file.fingerprint for file in files.values()}
        inputs |= {f"shard {file.path.stem}": file.fingerprint for file in generated.files}
        networks = {"evaluator": evaluator, "structure network": structure_network}
        inputs |= {name: file_fingerprint(folder / "model.safetensors") for name, folder in networks.items() if folder}
        write_json(temporary / "provenance.json", provenance(options.model_dump(mode="json"), inputs, seed))
    return evaluated


def described(
    evaluation: ImageEvaluation,
    images: np.ndarray,
    styles: Sequence[str],
    styled: bool,
    files: Sequence[PatchFile],
    structure_network: Path | None,
) -> dict[str, Described]:
    """What style is judged by, structure first if there is a network for it; the arguments are those of
    `described_by_structure` and `evaluate_images`."""
    kinds = {}
    if extract := feature_extractor(evaluation.features, structure_network):
        batch_size = evaluation.batch_size
        kinds["structure"] = described_by_structure(images, styles, styled, files, extract, batch_size)
    return kinds | described_by_moments(images, files)


SHARES = ("nearest_is_own_patient", "nearer_to_own_slide")
MEANS = {
    "layout_iou": "layout_iou",
    "chance_nearest_is_own_patient": "chance",
    **{f"{kind}_share_{measure}": f"{kind}_{measure}" for kind in ("structure", *MOMENTS) for measure in SHARES},
    "diversity": "diversity",
    "closest_distance": "closest_distance",
    "share_close_to_training": "close_to_training",
}
"""Metric of the summary, and the column whose mean it is; besides, the IoU of each class."""
OF_FEATURES = ("diversity", "closest_distance", "share_close_to_training", *(f"structure_share_{n}" for n in SHARES))
DISTANCES = ("diversity", "closest_distance")
"""Metrics that are not between 0 and 1."""


def summarise_quality(options: QualitySummaryOptions, folders: Sequence[Path], *, out: Path) -> pd.DataFrame:
    """Quality by source and number of annotated patients, over all repeats, of generated images and real patches.

    Images in one style are not independent: intervals are over style patients (`stedm.evaluation.intervals`). FID and
    its kin have one value for each repeat; their mean has no interval, KID has the deviation over its subsets.

    Args:
        options: number of bootstrap resamples, name of the features, the seed.
        folders: of `evaluate_images`.
        out: the table's file.

    Returns:
        source, annotated_patients, metric, images_of (generated, real), value, low, high, deviation, images (their
        number; in each of the sets for FID and its kin), features (their name, where the metric is of features).
    """
    images = pd.concat([IMAGES.read(folder / "images.csv") for folder in folders], ignore_index=True)
    sets = pd.concat([SETS.read(folder / "sets.csv") for folder in folders], ignore_index=True)
    groups = ["source", "annotated_patients"]
    tables = []
    for key, some in images.groupby(groups, sort=True):
        own = sets[(sets[groups] == list(key)).all(axis=1)]
        table = pd.concat([means(options, some.reset_index(drop=True), options.seed), means_of_sets(own)])
        tables.append(table.assign(**some[groups].iloc[0]))
    summary = pd.concat(tables, ignore_index=True)
    with written_whole(out) as temporary:
        IMAGE_QUALITY.write(summary, temporary, digits=6)
    return summary


def means(options: QualitySummaryOptions, images: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Means over images, with intervals, of what is measured on each."""
    classes = {f"layout_{name}": name for name in images.columns if re.match("iou_", name)}
    rows = []
    for metric, column in (MEANS | classes).items():
        for images_of, name in (("generated", column), ("real", f"real_{column}")):
            if name not in images:
                continue
            values = images[name].astype("float64")
            interval = clustered(metric, values, images["style_patient"], options.evaluation.bootstrap, seed)
            rows.append(
                {"metric": metric, "images_of": images_of, **interval._asdict(), "deviation": np.nan,
                 "images": int(values.notna().sum()),
                 "features": options.evaluation.features if metric in OF_FEATURES else ""}
            )  # fmt: skip
    return pd.DataFrame(rows)


def means_of_sets(sets: pd.DataFrame) -> pd.DataFrame:
    """Means over repeats of what is measured on all images together."""
    groups = sets.groupby(["metric", "images_of", "features"], sort=False, as_index=False)
    return groups[["value", "deviation", "images"]].mean().assign(low=np.nan, high=np.nan)


def clustered(metric: str, values: pd.Series, clusters: pd.Series, resamples: int, seed: int) -> Interval:
    """Mean of a metric's values and its 95% interval over clusters; a value without cluster ("") is one by itself."""
    present = values.notna()
    names = clusters[present].where(clusters[present] != "", values[present].index.to_series().astype(str))
    groups = values[present].groupby(names)
    sums, counts = groups.sum().to_numpy(float), groups.count().to_numpy(float)
    if "share" in metric:
        return share_interval(sums, counts)
    return clustered_mean_interval(sums, counts, resamples, seed, (0, np.inf if metric in DISTANCES else 1))
