"""Oxford Flowers 102: 8189 photographs of flowers in 102 classes (Nilsback & Zisserman 2008, ICVGIP).

Layout: `jpg/image_00001.jpg`, `segmim/segmim_00001.jpg` (the flower on blue), `imagelabels.mat` (class of each image)
and `setid.mat` (the images of the published training, validation and test subsets).
"""

from collections.abc import Collection
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import loadmat
from tqdm import tqdm

from stedm.config import IGNORE_INDEX
from stedm.datasets.found import Found
from stedm.errors import UserError
from stedm.sheet import Slide

PARTS = {"train": "trnid", "val": "valid", "test": "tstid"}
BLUE = (0, 0, 254)
NEAR, FAR = 32, 96
"""Largest difference to BLUE over the channels: up to NEAR a pixel is background, above FAR it is flower; in between,
JPEG compression makes it uncertain. On flowers pasted onto blue and saved at quality 75, this misclassifies 0.2% of
the flower and 0.8% of the background."""


MPP = 1.0
"""Photographs have no scale; with this value, `patches.mpp` is the downsampling factor."""


def find(folder: Path, masks: Path, parts: Collection[str] = tuple(PARTS)) -> Found:
    """Images of the chosen parts, with each class as a patient; their masks are made from the segmentations.

    The published parts contain images of every class and therefore cannot serve as roles; they only select images.

    Args:
        folder: of the data set.
        masks: folder for masks, 0 background, 1 flower, 255 uncertain.
        parts: any of `train` and `val` (10 images per class each) and `test` (the rest).

    Raises:
        UserError: `imagelabels.mat` or `setid.mat` cannot be read.
    """
    labels = read_mat(folder / "imagelabels.mat", "labels")
    numbers = np.sort(np.concatenate([read_mat(folder / "setid.mat", PARTS[part]) for part in parts]))
    found = Found()
    if len(numbers) and not 1 <= numbers[0] <= numbers[-1] <= len(labels):
        raise UserError(
            f"{folder / 'setid.mat'}: lists image {numbers[-1]}, but imagelabels.mat has {len(labels)} labels; download"
            " both again"
        )
    for number in tqdm(numbers, "Making masks", disable=None):
        image, segmented = folder / f"jpg/image_{number:05}.jpg", folder / f"segmim/segmim_{number:05}.jpg"
        absent = [path for path in (image, segmented) if not path.is_file()]
        if absent:
            found.missing += [f"{path}: is missing" for path in absent]
            continue
        mask = masks / f"{image.stem}.png"
        try:
            write_mask(segmented, mask)
        except OSError as error:
            found.problems.append(f"{segmented}: cannot be read as an image ({error}); download it again")
        found.slides.append(Slide(image.stem, f"class_{labels[number - 1]:03}", image, mask, mpp=MPP))
    return found


def read_mat(path: Path, key: str) -> np.ndarray:
    """A row of integers in a MATLAB file, (N,) int."""
    try:
        return np.asarray(loadmat(path)[key], int).ravel()
    except Exception as error:  # scipy raises half a dozen types for a broken file
        raise UserError(f"{path}: has no integers {key!r} ({error!r}); download it again") from error


def write_mask(segmented: Path, mask: Path) -> None:
    """Write the mask of a flower that was cut out on blue."""
    with Image.open(segmented) as image:
        pixels = np.asarray(image.convert("RGB")).astype(np.int16)
    distance = np.abs(pixels - BLUE).max(2)
    values = np.where(distance > FAR, 1, np.where(distance > NEAR, IGNORE_INDEX, 0)).astype(np.uint8)
    mask.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(mask)
