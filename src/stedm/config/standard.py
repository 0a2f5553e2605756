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
        "strong": {"label": "real + strong augmentation", "augmentation": "strong"},
        "recolour_strong": {
            "label": "real + recoloured + strong augmentation",
            "sources": ["recolour"],
            "augmentation": "strong",
        },
        "pseudo_labels_strong": {
            "label": "real + pseudo-labels + strong augmentation",
            "sources": ["pseudo_labels"],
            "augmentation": "strong",
        },
        "repaint_strong": {
            "label": "real + repainted pseudo-labels + strong augmentation",
            "sources": ["repaint"],
            "augmentation": "strong",
        },
        "styled_strong": {
            "label": "real + styled synthetic + strong augmentation",
            "sources": ["styled"],
            "augmentation": "strong",
        },
        "everything_strong": {
            "label": "real + recoloured + repainted + styled + strong augmentation",
            "sources": ["recolour", "repaint", "styled"],
            "augmentation": "strong",
        },
        "all_strong": {
            "label": "all annotations + strong augmentation (upper bound)",
            "annotations": "all",
            "augmentation": "strong",
        },
    },
    "evaluation": {"claim": ["repaint_strong", "strong"], "evaluator_arm": "all_strong"},
}
"""Merged under the file, section by section."""
