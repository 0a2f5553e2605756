"""How well the agreement of two networks tells, without annotations, on which patients one of them fails.

    python benchmarks/agreement.py results/organs_gpu strong pseudo_labels_strong

Networks of two arms predict patches of the patients whom neither saw annotated. Their agreement, the Dice of the two
predictions of the scored class, and the confidence of the first network, its mean entropy with the sign changed, are
compared with the first network's Dice against the annotations: by rank correlation, and by how many of the worst tenth
of the patients are among the tenth with the lowest values. The study's slides have annotations of these patients too.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from stedm.config import IGNORE_INDEX
from stedm.segmentation.network import TrainedNetwork, load_network, predict_probabilities
from stedm.store import PatchFile
from stedm.training_set import by_patient, files_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="folder of a study")
    parser.add_argument("arm", help="arm whose network may fail")
    parser.add_argument("other", help="arm whose network it is compared with")
    parser.add_argument("--label", type=int, default=1, help="of the scored class (default: %(default)s)")
    parser.add_argument("--patches", type=int, default=24, help="of each slide (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON on the last line")
    arguments = parser.parse_args()
    found = []
    for split in sorted((arguments.results / "splits").glob("*.csv")):
        networks = [
            load_network(arguments.results / "segmentation" / arm / split.stem / "seed0")
            for arm in (arguments.arm, arguments.other)
        ]
        for role in ("unannotated", "test"):
            patients = by_patient(files_of(split, arguments.results / "patches", role))
            rows = [measured(files, networks, arguments.label, arguments.patches) for files in patients.values()]
            found.append({"split": split.stem, "role": role} | summary(pd.DataFrame(rows)))
    table = pd.DataFrame(found).round(2)
    print(table.to_string(index=False))
    if arguments.json:
        print(json.dumps(table.to_dict("records")))


def measured(files: list[PatchFile], networks: list[TrainedNetwork], label: int, count: int) -> dict[str, float]:
    """Dice of the first network, its agreement with the second, and its confidence, on patches of a patient."""
    places = [
        (file, index)
        for file in files
        for index in np.unique(np.linspace(0, len(file) - 1, count).round().astype(int)).tolist()
    ]
    images = np.stack([file.image(index) for file, index in places])
    truth = np.stack([file.labels(index) for file, index in places])
    first, second = (predict_probabilities(network, images) for network in networks)
    one, other, known = first.argmax(1) == label, second.argmax(1) == label, truth != IGNORE_INDEX
    return {
        "dice": dice(one[known], truth[known] == label),
        "agreement": dice(one, other),
        "confidence": float((first * np.log(first.clip(1e-9))).sum(1).mean()),
    }


def dice(one: np.ndarray, other: np.ndarray) -> float:
    """Of two masks; 1 where both are empty."""
    total = one.sum() + other.sum()
    return float(2 * (one & other).sum() / total) if total else 1.0


def summary(patients: pd.DataFrame) -> dict[str, float]:
    """Rank correlations with Dice, and how many of the worst tenth are found."""
    tenth = max(1, round(len(patients) / 10))
    worst = set(patients["dice"].nsmallest(tenth).index)
    found: dict[str, float] = {"patients": len(patients), "worst": tenth}
    for name in ("agreement", "confidence"):
        found[f"{name}: correlation"] = float(spearmanr(patients[name], patients["dice"]).statistic)
        found[f"{name}: found"] = len(worst & set(patients[name].nsmallest(tenth).index))
    return found


if __name__ == "__main__":
    main()
