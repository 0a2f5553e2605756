"""Do generated images follow their layout? The overlap of the layout with an independent network's prediction."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from stedm.config import Device
from stedm.config.training import DEFAULT_DEVICE
from stedm.device import within_memory
from stedm.evaluation.metrics import confusion, iou
from stedm.segmentation.network import load_network, predict_probabilities
from stedm.segmentation.windows import Predict


def network_predictor(folder: Path, options: Device = DEFAULT_DEVICE) -> Predict:
    """The network in a folder, as a function from images to class probabilities."""
    return within_memory(partial(predict_probabilities, load_network(folder, options)))


def network_agreement(folder: Path, options: Device = DEFAULT_DEVICE) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """The network in a folder, as a function from images and layouts to the (B,) mean IoU over the layout's classes."""
    predict = network_predictor(folder, options)
    return lambda images, layouts: mean_of_classes(class_overlap(images, layouts, predict))


def class_overlap(images: np.ndarray, layouts: np.ndarray, predict: Predict) -> np.ndarray:
    """(B, C) IoU per class between predictions for images (B, P, P, 3) and their layouts (B, P, P).

    NaN for a class that is not in the layout; predicting it lowers the IoU of the classes that are.
    """
    probabilities = predict(images)
    values = []
    for layout, found in zip(layouts, probabilities.argmax(1), strict=True):
        values.append(iou(confusion(layout, found, probabilities.shape[1])))
    return np.array(values)


def mean_of_classes(values: np.ndarray) -> np.ndarray:
    """(B,) means of (B, C), ignoring NaN; NaN for rows of NaN."""
    return pd.DataFrame(values).mean(axis=1).to_numpy()


def layout_overlap(
    images: np.ndarray, layouts: np.ndarray, class_names: Sequence[str], predict: Predict | None, batch_size: int
) -> pd.DataFrame:
    """Columns layout_iou (the mean over the layout's classes) and iou_{class}; NaN without `predict`."""
    values = np.full((len(images), len(class_names)), np.nan)
    for start in range(0, len(images) if predict else 0, batch_size):
        assert predict
        batch = slice(start, start + batch_size)
        values[batch] = class_overlap(images[batch], layouts[batch], predict)
    columns = {f"iou_{name}": values[:, label] for label, name in enumerate(class_names)}
    return pd.DataFrame({"layout_iou": mean_of_classes(values), **columns})
