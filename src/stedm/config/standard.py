"""The standard arms: what a study compares when its file names no arms.

They are the ways to use unannotated patients that a reviewer would ask for, each with the augmentation that needs none.
"""

from typing import Any

STANDARD: dict[str, Any] = {
    "generators": {"styled": {}},
    "sources": {
        "recolour": {"kind": "recolour"},
        "pseudo_labels": {"kind": "pseudo_labels", "arm": "strong"},
        "repaint": {"kind": "repaint", "generator": "styled", "arm": "strong"},
    },
    "arms": {
        "real": {"label": "real only"},
        "strong": {"label": "strong augmentation", "augmentation": "strong"},
        "recolour_strong": {"label": "strong + recoloured", "sources": ["recolour"], "augmentation": "strong"},
        "pseudo_labels_strong": {
            "label": "strong + pseudo-labels",
            "sources": ["pseudo_labels"],
            "augmentation": "strong",
        },
        "repaint_strong": {"label": "strong + repainted", "sources": ["repaint"], "augmentation": "strong"},
        "styled_strong": {"label": "strong + styled", "sources": ["styled"], "augmentation": "strong"},
        "everything_strong": {
            "label": "strong + recoloured, repainted, styled",
            "sources": ["recolour", "repaint", "styled"],
            "augmentation": "strong",
        },
        "all_strong": {
            "label": "strong, all annotations (upper bound)",
            "annotations": "all",
            "augmentation": "strong",
        },
    },
    "evaluation": {"claim": ["repaint_strong", "strong"], "evaluator_arm": "all_strong"},
}
"""Merged under the file, section by section."""
