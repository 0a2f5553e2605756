"""Sliding-window segmentation of the slides' annotated regions, and its confusion matrices.

Memory grows with a region only through its label maps (truth, prediction, and the mask of annotated pixels): three
bytes per pixel of its bounding box at the patches' resolution. Everything else has the size of one band of windows.
"""

import logging
import math
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from tqdm import tqdm

from stedm.config import IGNORE_INDEX, ScoreOptions, TissueClass
from stedm.device import device_name, within_memory
from stedm.errors import UserError
from stedm.evaluation.metrics import confusion
from stedm.files import file_fingerprint, provenance, write_json, written_whole
from stedm.models import check_made_for
from stedm.segmentation.application import applied
from stedm.segmentation.network import TrainedNetwork, load_network
from stedm.segmentation.windows import gaussian_weights, stitch
from stedm.sheet import Slide, slides_by_name, tissue_file
from stedm.slides import open_slide
from stedm.slides.annotations import read_annotation
from stedm.slides.patches import places
from stedm.slides.tissue import tissue_mask
from stedm.splits import read_split
from stedm.tables import CONFUSION
from stedm.training import weights_fingerprint

log = logging.getLogger(__name__)


def score_slides(options: ScoreOptions, model: Path, split: Path, sheet: Path, *, out: Path) -> pd.DataFrame:
    """Predict the annotated regions of a split's test and validation slides and count confusions.

    Args:
        options: overlap and batch size of the windows, their size and resolution; classes, whose order gives the
            labels; how annotation files are read; how the network is applied; the run, for the table.
        model: folder of the segmentation network.
        split: the split's table.
        sheet: sheet that `write_sheet` wrote.
        out: folder to make: `confusion.csv` (the run, slide, patient, role, true, predicted, pixels; all pairs of
            classes) and `maps/{slide}.png` (predicted labels; 255 where no window lay), with provenance.json.

    Returns:
        The table of confusions.

    Raises:
        UserError: no slide of the split can be scored; the network is of another arm, seed or split.
    """
    table = read_split(split)
    table = table[table["role"].isin(["test", "validation"])]
    for slide in table.loc[~table["labelled"], "slide"]:
        log.warning("Slide %s is not scored: it has no annotated pixels", slide)
    table = table[table["labelled"]]
    if "test" not in set(table["role"]):
        raise UserError(f"{split}: has no annotated test slide; add annotations for the slides of test patients")
    slides = slides_by_name(sheet)
    check_made_for(model, split=options.run.split, arm_name=options.trained_arm, seed=options.run.seed)
    network = load_network(model, options.device)
    names = options.class_names
    rows: list[dict[str, str | int]] = []
    with written_whole(out) as folder:
        (folder / "maps").mkdir(parents=True)
        for row in tqdm(table.to_dict("records"), disable=None):
            matrix = score_slide(options, network, slides[row["slide"]], folder / "maps" / f"{row['slide']}.png")
            rows += [
                {name: row[name] for name in ("slide", "patient", "role")}
                | {"true": true, "predicted": predicted, "pixels": pixels}
                for true, counts in zip(names, matrix.tolist(), strict=True)
                for predicted, pixels in zip(names, counts, strict=True)
            ]
        result = pd.DataFrame(rows).assign(**options.run.model_dump())
        CONFUSION.write(result, folder / "confusion.csv")
        inputs = {slide: file_fingerprint(slides[slide].path) for slide in table["slide"]}
        inputs["model"] = weights_fingerprint(network.unet)
        write_json(folder / "provenance.json", provenance(options.model_dump(mode="json"), inputs, None, device_name()))
    return result


def score_slide(options: ScoreOptions, network: TrainedNetwork, slide: Slide, map_file: Path) -> np.ndarray:
    """Predict one slide's annotated region, write the map, and return its (C, C) confusion matrix."""
    if slide.annotation is None:
        raise UserError(f"slide {slide.slide!r}: the sheet lists no annotation; extract its patches again")
    classes, patches, windows = options.classes, options.patches, options.windows
    with open_slide(slide, patches) as opened:
        annotation = read_annotation(
            slide.annotation,
            classes,
            options.annotations,
            opened.dimensions,
            slide.path.name,
            opened.bounds,
            max_megapixels=options.patches.max_megapixels,
        )
        if annotation.bounds is None:
            raise UserError(f"{slide.annotation}: nothing is annotated; extract the patches of {slide.slide!r} again")
        downsample = opened.downsample
        x0, y0, width, height = region(annotation.bounds, opened.dimensions, downsample, patches.size)
        true = annotation.rasterise(x0, y0, width, height, downsample)

        def read(left: int, top: int, w: int, h: int) -> tuple[np.ndarray, np.ndarray]:
            return opened.read_readable(x0 + round(left * downsample), y0 + round(top * downsample), w, h, downsample)

        known = true != IGNORE_INDEX

        def annotated(corners: np.ndarray) -> np.ndarray:
            return np.array([known[y : y + patches.size, x : x + patches.size].any() for x, y in corners])

        def with_tissue() -> np.ndarray:
            tissue = tissue_mask(opened, patches.tissue, tissue_file(slide.slide, patches))
            return places(opened, patches, tissue)[0]

        predict = within_memory(applied(network, options.application, opened, with_tissue))
        predicted = np.full((height, width), IGNORE_INDEX, np.uint8)
        weights = gaussian_weights(patches.size)
        for top, probabilities in stitch(
            true.shape, annotated, weights, windows.overlap, windows.batch_size, read, predict
        ):
            seen = ~np.isnan(probabilities[0])
            rows = predicted[top : top + len(seen)]
            rows[seen] = probabilities[:, seen].argmax(0)
    write_map(map_file, predicted, classes, x0, y0, downsample)
    if lost := int((known & (predicted == IGNORE_INDEX)).sum()):
        log.warning("Slide %s: %d annotated pixels are not scored: the slide is broken there", slide.slide, lost)
        true[predicted == IGNORE_INDEX] = IGNORE_INDEX
    return confusion(true, predicted, len(classes))


def region(
    bounds: tuple[float, float, float, float], dimensions: tuple[int, int], downsample: float, size: int
) -> tuple[int, int, int, int]:
    """Region to predict: the annotation's bounding box, grown to at least one window and kept on the slide.

    Args:
        bounds: level-0 left, top, right, bottom.
        dimensions: level-0 width and height of the slide.
        downsample: level-0 pixels per predicted pixel.
        size: side of a window in pixels.

    Returns:
        Level-0 left and top; width and height in predicted pixels (those of a window if the slide is smaller).
    """
    starts, counts = [], []
    for low, high, length in zip(bounds[:2], bounds[2:], dimensions, strict=True):
        start = min(max(0, math.floor(low)), length)
        count = math.ceil((min(high, length) - start) / downsample)
        if count < size:
            start = max(0, min(start, math.floor(length - size * downsample)))
            count = size
        elif start + count * downsample > length:  # a last pixel that would lie half off the slide
            count = max(size, int((length - start) / downsample))
        starts.append(start)
        counts.append(count)
    return starts[0], starts[1], counts[0], counts[1]


def write_map(path: Path, labels: np.ndarray, classes: list[TissueClass], x0: int, y0: int, downsample: float) -> None:
    """Write a label map as a palette PNG in the classes' colours; its text chunks give its position on the slide."""
    palette = np.full((256, 3), 255, np.uint8)
    palette[: len(classes)] = [item.rgb for item in classes]
    image = Image.fromarray(labels)
    image.putpalette(palette.tobytes())
    text = PngInfo()
    for key, value in (("level0_x", x0), ("level0_y", y0), ("downsample", downsample)):
        text.add_text(key, str(value))
    image.save(path, pnginfo=text)
