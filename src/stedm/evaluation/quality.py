"""Do drawn images follow their layout, and do they look like the patient whose style they were given?

Layout: overlap of the layout with what an independent network sees in the drawn image. Style: distances between
statistics of the drawn image and the mean statistics of slides that the generator knew in training (Mahalanobis, by
the covariance within slides). Colour statistics are means and deviations in CIELAB; texture statistics
tell fine from coarse, whatever the colours.
"""

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.ndimage import gaussian_filter
from skimage.color import rgb2lab

from stedm.config import Evaluation
from stedm.errors import UserError
from stedm.evaluation.metrics import confusion, iou
from stedm.evaluation.statistics import SPLIT, interval
from stedm.files import written_whole
from stedm.segmentation.predict import load_network, predict_probabilities
from stedm.segmentation.windows import Predict
from stedm.splits import read_split, slides_of
from stedm.store import PatchFile, patch_file
from stedm.tables import read_table

PATCHES = 256
"""Patches of a slide that its mean statistics are taken from, evenly spaced over it."""
SCALES = (0.7, 1.4, 2.8, 5.6)
"""Deviations in pixels of the Gaussians whose differences are the bands of the texture statistics."""
KINDS = {"": "colour", "texture_": "texture"}
"""Prefix of the columns, and statistics behind them."""


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
    """Judge drawn images and write one row for each.

    Args:
        options: how many images are judged (drawn at random where there are more) and how many at a time.
        manifest: rows `image, layout_slide, style_slide`.
        shards: patch files of the drawn images; their first coordinate is the image's number in the manifest.
        split: the split that the generator was trained on.
        patches: folder of the slides' patch files.
        judge: folder of the segmentation network that judges layouts; None: they are not judged.
        seed: of the draw.
        out: the table's file.

    Returns:
        image, layout_slide, style_slide, style_patient; layout_iou, its mean over the layout's classes, and
        iou_{class}; distance_to_source and distance_to_annotated, the distances to the mean statistics of the style's
        slide and of the annotated patients, and nearer_to_source, which is smaller; nearest_patient, whose slide among
        all training slides is nearest, and nearest_is_source; real_nearer_to_source and real_nearest_is_source, how
        often that is so for real patches of the style's slide, which perfect images would reach; the same from
        `distance_to_source` on for texture with the prefix `texture_`; chance, how often a slide at random would be of
        the source. What cannot be told is empty.

    Raises:
        UserError: shards and manifest do not belong together.
    """
    table = read_table(manifest)
    files = [PatchFile(path) for path in shards]
    places = {int(image): (file, index) for file in files for index, image in enumerate(file.coords[:, 0])}
    if set(places) != set(table["image"]):
        raise UserError(f"{manifest}: its images are not those of {shards[0].parent}; draw the shards again")
    rng = np.random.default_rng(seed % 2**32)
    chosen = np.sort(rng.permutation(len(table))[: options.judged_images])
    result = table.iloc[chosen][["image", "layout_slide", "style_slide"]].reset_index(drop=True)
    found = [places[image] for image in result["image"]]
    images = np.stack([file.image(index) for file, index in found])
    layouts = np.stack([file.labels(index) for file, index in found])
    class_names = [str(name) for name in files[0].attributes["class_names"]]
    predict = network_predictor(judge) if judge else None
    roles = read_split(split)
    patients = dict(zip(roles["slide"], roles["patient"], strict=True))
    result["style_patient"] = [patients.get(slide, "") for slide in result["style_slide"]]
    known = slides_of(roles, "annotated", "unannotated")
    parts = [result, layout_overlap(images, layouts, class_names, predict, options.batch_size)]
    statistics = statistics_of_slides([patch_file(patches, slide) for slide in known])
    sources = list(zip(result["style_slide"], result["style_patient"], strict=True))
    for prefix, kind in KINDS.items():
        drawn = np.stack([STATISTICS[kind](image) for image in images])
        annotated = slides_of(roles, "annotated")
        distances = style_distances(drawn, statistics[kind], patients, annotated, sources)
        ceiling = shares_of_real_patches(statistics[kind], patients, annotated).reindex(result["style_slide"])
        parts += [distances.add_prefix(prefix), ceiling.reset_index(drop=True).add_prefix(prefix)]
    counts = pd.Series([patients[slide] for slide in known]).value_counts()
    parts.append(pd.DataFrame({"chance": [counts.get(patient, np.nan) / len(known) for _, patient in sources]}))
    judged = pd.concat(parts, axis=1)
    with written_whole(out) as temporary:
        judged.to_csv(temporary, index=False, float_format="%.6g")
    return judged


def network_predictor(folder: Path) -> Predict:
    """Class probabilities by the network in a folder."""
    network = load_network(folder)
    return lambda images: predict_probabilities(network, images)


def layout_overlap(
    images: np.ndarray, layouts: np.ndarray, class_names: Sequence[str], predict: Predict | None, batch_size: int
) -> pd.DataFrame:
    """Columns layout_iou and iou_{class} of images (N, P, P, 3) and their layouts (N, P, P); NaN without `predict`.

    A class that is not in the layout has no value of its own; seeing it there costs the classes that are.
    """
    values = np.full((len(images), len(class_names)), np.nan)
    for start in range(0, len(images) if predict else 0, batch_size):
        assert predict
        found = predict(images[start : start + batch_size]).argmax(1)
        for index, (layout, prediction) in enumerate(zip(layouts[start:], found, strict=False), start):
            matrix = confusion(layout, prediction, len(class_names))
            values[index] = np.where(matrix.sum(1) > 0, iou(matrix), np.nan)
    columns = {f"iou_{name}": values[:, label] for label, name in enumerate(class_names)}
    return pd.DataFrame({"layout_iou": pd.DataFrame(values).mean(axis=1), **columns})


def colour_statistics(image: np.ndarray) -> np.ndarray:
    """(6,) means and standard deviations of the CIELAB channels of an image (P, P, 3) uint8."""
    lab = rgb2lab(image).reshape(-1, 3)
    return np.concatenate([lab.mean(0), lab.std(0)])


def texture_statistics(image: np.ndarray) -> np.ndarray:
    """(4,) logarithms of the shares of a patch's contrast that lie in bands from fine to coarse.

    The bands are differences of Gaussians of the mean optical density over the channels; shares do not change when
    the stain gets stronger.
    """
    density = -np.log((image.astype(np.float64) + 1) / 256).mean(2)
    blurred = [density, *(gaussian_filter(density, scale, mode="reflect") for scale in SCALES)]
    energies = np.array([np.var(fine - coarse) for fine, coarse in itertools.pairwise(blurred)])
    energies = energies + 1e-8  # a blank image has no texture: equal shares
    return np.log(energies / energies.sum())


STATISTICS = {"colour": colour_statistics, "texture": texture_statistics}


def statistics_of_slides(files: Sequence[PatchFile]) -> dict[str, dict[str, np.ndarray]]:
    """Statistics of patches of each slide: kind → slide → (n, S), n at most 256."""
    found: dict[str, dict[str, np.ndarray]] = {kind: {} for kind in STATISTICS}
    for file in files:
        indices = np.unique(np.linspace(0, len(file) - 1, min(len(file), PATCHES)).round().astype(int))
        images = [file.image(int(index)) for index in indices]
        for kind, function in STATISTICS.items():
            found[kind][file.slide] = np.stack([function(image) for image in images])
    return found


def whitening(slides: Iterable[np.ndarray]) -> np.ndarray:
    """(S, S) matrix W such that the Euclidean distance of x @ W is the Mahalanobis distance within slides.

    Patches of one slide differ in what tissue they show; the covariance within slides, pooled, says how, and the
    distance discounts it. Of real patches in two halves of the phantom study 82–86% are nearest to their own slide with
    it, 55% with plain standardised distances.
    """
    within = np.concatenate([values - values.mean(0) for values in slides])
    covariance = within.T @ within / len(within)
    ridge = 1e-6 * max(np.trace(covariance), 1e-12)
    return np.linalg.cholesky(np.linalg.inv(covariance + ridge * np.eye(len(covariance))))


def style_distances(
    drawn: np.ndarray,
    slides: Mapping[str, np.ndarray],
    patients: Mapping[str, str],
    annotated: Sequence[str],
    sources: Sequence[tuple[str, str]],
) -> pd.DataFrame:
    """How far drawn images are from their style's slide, from the annotated patients, and whose slide is nearest.

    Args:
        drawn: (N, S) statistics of the drawn images.
        slides: (n, S) statistics of each training slide's patches.
        patients: patient by slide.
        annotated: names of the annotated patients' slides.
        sources: style slide and style patient of each image.

    Returns:
        distance_to_source, distance_to_annotated, nearer_to_source, nearest_patient, nearest_is_source.
    """
    whiten = whitening(slides.values())
    centres = pd.DataFrame({slide: values.mean(0) @ whiten for slide, values in slides.items()}).T
    drawn = drawn @ whiten
    distances = np.linalg.norm(drawn[:, None] - centres.to_numpy()[None], axis=2)
    of_annotated = centres.loc[list(annotated)].groupby([patients[slide] for slide in annotated]).mean().mean()
    to_annotated = np.linalg.norm(drawn - of_annotated.to_numpy(), axis=1)
    rows = []
    for image, (slide, patient) in enumerate(sources):
        source = distances[image, centres.index.get_loc(slide)] if slide in centres.index else np.nan
        nearest = patients[str(centres.index[distances[image].argmin()])]
        styled = not np.isnan(source)
        rows.append(
            {
                "distance_to_source": source,
                "distance_to_annotated": to_annotated[image],
                "nearer_to_source": source < to_annotated[image] if styled else None,
                "nearest_patient": nearest,
                "nearest_is_source": nearest == patient if styled else None,
            }
        )
    return pd.DataFrame(rows)


def shares_of_real_patches(
    slides: Mapping[str, np.ndarray], patients: Mapping[str, str], annotated: Sequence[str]
) -> pd.DataFrame:
    """What perfect images would reach: half of each slide's patches judged against the other half.

    Patches of one slide differ in what tissue they show, so not even real ones are always nearest to their own slide.

    Returns:
        real_nearer_to_source and real_nearest_is_source, shares in [0, 1] by slide (those of at least two patches).
    """
    known = {slide: values[::2] for slide, values in slides.items()}
    judged = [(slide, row) for slide, values in slides.items() for row in values[1::2]]
    if not judged:
        return pd.DataFrame({"real_nearer_to_source": [], "real_nearest_is_source": []}, dtype=float)
    sources = [(slide, patients[slide]) for slide, _ in judged]
    table = style_distances(np.array([row for _, row in judged]), known, patients, annotated, sources)
    shares = table[["nearer_to_source", "nearest_is_source"]].astype(float)
    return shares.groupby([slide for slide, _ in judged]).mean().add_prefix("real_")


SHARES = {
    "layout_iou": "layout_iou",
    "share_nearer_to_source": "nearer_to_source",
    "share_nearest_is_source": "nearest_is_source",
    "chance_nearest_is_source": "chance",
    "real_share_nearer_to_source": "real_nearer_to_source",
    "real_share_nearest_is_source": "real_nearest_is_source",
    "texture_share_nearer_to_source": "texture_nearer_to_source",
    "texture_share_nearest_is_source": "texture_nearest_is_source",
    "texture_real_share_nearer_to_source": "texture_real_nearer_to_source",
    "texture_real_share_nearest_is_source": "texture_real_nearest_is_source",
}
"""Metric of the summary, and the column whose mean it is; besides, the IoU of each class."""


def summarise_quality(options: Evaluation, files: Sequence[Path], seed: int, out: Path) -> pd.DataFrame:
    """Means over images by generator and number of annotated patients, over all repeats.

    Images in one style are not independent: intervals are bootstrap intervals over style patients.

    Args:
        options: number of bootstrap resamples.
        files: tables of `judge_images`, named {generator}/{split}.csv.
        seed: of the bootstrap.
        out: the table's file.

    Returns:
        generator, annotated_patients, metric, value, low, high, images.
    """
    tables: dict[tuple[str, int], list[pd.DataFrame]] = {}
    for path in files:
        number = SPLIT.fullmatch(Path(path).stem)
        if not number:
            raise UserError(f"{path}: is not named {{generator}}/n{{annotated}}-r{{repeat}}.csv; move it there")
        tables.setdefault((Path(path).parent.name, int(number[1])), []).append(read_table(path))
    rows = []
    for (generator, annotated), found in sorted(tables.items()):
        together = pd.concat(found, ignore_index=True)
        classes = {f"layout_{name}": name for name in together.columns if re.match("iou_", name)}
        for metric, column in (SHARES | classes).items():
            values = pd.to_numeric(together[column].replace({"True": 1, "False": 0, True: 1, False: 0}))
            value, low, high = clustered(values, together["style_patient"], options.bootstrap, seed)
            rows.append(
                {"generator": generator, "annotated_patients": annotated, "metric": metric, "value": value,
                 "low": low, "high": high, "images": int(values.notna().sum())}
            )  # fmt: skip
    summary = pd.DataFrame(rows)
    with written_whole(out) as temporary:
        summary.to_csv(temporary, index=False, float_format="%.6g")
    return summary


def clustered(values: pd.Series, clusters: pd.Series, resamples: int, seed: int) -> tuple[float, float, float]:
    """Mean of values and its 95% bootstrap interval over clusters; a value without cluster ("") is one by itself."""
    present = values.notna()
    names = clusters[present].where(clusters[present] != "", values[present].index.to_series().astype(str))
    groups = values[present].groupby(names)

    def mean(sums: np.ndarray, counts: np.ndarray, axis: int = -1) -> np.ndarray:
        return sums.sum(axis) / counts.sum(axis)

    return interval(mean, (groups.sum().to_numpy(float), groups.count().to_numpy(float)), resamples, seed)
