"""Pseudo-labels: unannotated patches as they are, labelled by a segmentation network (Lee 2013)."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from stedm.config import IGNORE_INDEX, PredictedLayoutsOptions
from stedm.device import device_name
from stedm.files import provenance, write_json, written_whole
from stedm.hdf5 import new_file
from stedm.shards import Generated
from stedm.store import PatchFile
from stedm.synthesis.plan import Row
from stedm.synthesis.shard import batches
from stedm.training_set import files_of, fingerprints

log = logging.getLogger(__name__)


def pseudo_labels(
    rows: Sequence[Row],
    files: Mapping[str, PatchFile],
    *,
    predict: Callable[[np.ndarray], np.ndarray],
    thresholds: Sequence[float],
) -> Iterator[Generated]:
    """The patch of each row with the labels that a network gives it; a patch without any label is left out.

    Args:
        rows: of the plan.
        files: patch files of the slides in it.
        predict: probabilities (B, C, P, P) of images (B, P, P, 3) uint8.
        thresholds: (C,) least probability of each class.
    """
    for some in batches(rows):
        images = np.stack([files[row["layout_slide"]].image(int(row["layout_patch"])) for row in some])
        for row, image, labels in zip(some, images, confident(predict(images), thresholds), strict=True):
            if (labels != IGNORE_INDEX).any():
                yield Generated(int(row["image"]), image, labels, 0)


def predict_layouts(
    options: PredictedLayoutsOptions,
    split: Path,
    patches: Path,
    *,
    predict: Callable[[np.ndarray], np.ndarray],
    network: str,
    out: Path,
) -> None:
    """Predict the layouts of all unannotated patches, for a generator to learn from.

    Writes out/{slide}.h5 with `labels` (N, P, P) uint8, row i for patch i of the slide's patch file; 255 where the
    network is not confident.

    Args:
        options: least confidence.
        split: table of roles.
        patches: folder of patch files.
        predict: as of `pseudo_labels`.
        network: fingerprint of the network that predicts.
        out: folder of the layouts.
    """
    files = files_of(split, patches, "unannotated")
    with written_whole(out) as temporary:
        temporary.mkdir()
        for file in files:
            found = [confident(predict(images), [options.layouts.confidence]) for images in file.images()]
            labels = np.concatenate(found)
            with new_file(temporary / f"{file.slide}.h5") as cache:
                cache.create_dataset("labels", data=labels, chunks=(1, *labels.shape[1:]), fletcher32=True)
                cache.attrs.update(slide=file.slide, patches=file.fingerprint, made_by=network)
            log.info(
                "%s: %d layouts, %.0f%% of the pixels open",
                file.slide,
                len(labels),
                100 * (labels == IGNORE_INDEX).mean(),
            )
        inputs = fingerprints(files) | {"network": network}
        write_json(
            temporary / "provenance.json", provenance(options.model_dump(mode="json"), inputs, None, device_name())
        )


def confident(probabilities: np.ndarray, thresholds: Sequence[float]) -> np.ndarray:
    """(B, P, P) uint8 most probable classes of probabilities (B, C, P, P), 255 below the threshold of the class, or of
    all."""
    labels = probabilities.argmax(1)
    unsure = probabilities.max(1) < np.broadcast_to(thresholds, probabilities.shape[1])[labels]
    return np.where(unsure, IGNORE_INDEX, labels).astype(np.uint8)
