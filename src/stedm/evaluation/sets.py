"""How far the set of generated images is from the set of real ones: FID, KID, precision and recall.

All three depend on the number of images, FID most: below some thousand it is too high, whatever is compared. So real
patches are compared with real patches, as many of the same slides: that is as low as generated images can come.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch

LEAST = 8
"""Images below which nothing is compared: precision and recall look at the third neighbour."""
SUBSET = 1000
COLUMNS = ["images_of", "metric", "value", "deviation", "images", "features"]


def compare_sets(
    generated: np.ndarray, styles: Sequence[str], known: Mapping[str, np.ndarray], extractor: str, seed: int
) -> pd.DataFrame:
    """FID, KID, precision and recall of generated images, and of real patches, against other real patches.

    The three sets hold the same number of images of each style slide, and none of the real patches is in two.

    Args:
        generated: (N, D) features of the generated images.
        styles: their style slides.
        known: (n, D) features of real patches, by slide.
        extractor: name of the features.
        seed: of who is in which set.

    Returns:
        images_of (generated, real), metric (fid, kid, precision, recall), value, deviation (of KID, over its subsets),
        images (in each of the sets), features. No row where there are fewer than 8 images.
    """
    rng = np.random.default_rng(seed % 2**32)
    first, second, third = (np.concatenate(part) for part in zip(*matched(generated, styles, known, rng), strict=True))
    if len(first) < LEAST:
        return pd.DataFrame(columns=COLUMNS)
    rows = []
    for images_of, some in (("generated", first), ("real", second)):
        for metric, (value, deviation) in distances(some, third).items():
            rows.append((images_of, metric, value, deviation, len(some), extractor))
    return pd.DataFrame(rows, columns=COLUMNS)


def matched(
    generated: np.ndarray, styles: Sequence[str], known: Mapping[str, np.ndarray], rng: np.random.Generator
) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """For each slide equal numbers of images in its style, of its patches, and of others of its patches."""
    parts = []
    for slide, features in known.items():
        own = generated[np.array(styles) == slide]
        count = min(len(own), len(features) // 2)
        order = rng.permutation(len(features))
        parts.append((rng.permutation(own)[:count], features[order[:count]], features[order[count : 2 * count]]))
    return parts


def distances(images: np.ndarray, real: np.ndarray) -> dict[str, tuple[float, float]]:
    """Value and deviation (NaN but for KID) of each metric, of features (n, D) against those of real patches (n, D).

    FID (Heusel et al. 2017); KID, mean and deviation over 100 subsets of half the images, at most 1000 (Bińkowski et
    al. 2018); precision and recall by the third neighbour (Kynkäänniemi et al. 2019).
    """
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
    from torch_fidelity.metric_kid import kid_features_to_metric
    from torch_fidelity.metric_prc import prc_features_to_metric

    one, other = (torch.from_numpy(features.astype(np.float64)) for features in (images, real))
    fid = fid_statistics_to_metric(fid_features_to_statistics(one), fid_features_to_statistics(other), verbose=False)
    kid = kid_features_to_metric(one, other, kid_subset_size=min(SUBSET, len(one) // 2), verbose=False)
    prc = prc_features_to_metric(one, other, verbose=False)
    return {
        "fid": (fid["frechet_inception_distance"], np.nan),
        "kid": (kid["kernel_inception_distance_mean"], kid["kernel_inception_distance_std"]),
        "precision": (prc["precision"], np.nan),
        "recall": (prc["recall"], np.nan),
    }
