"""A version for each stage: raise it when the stage's results change, and studies made before redo that stage."""

VERSIONS = {
    "phantoms": 1,
    "check": 3,
    "patches": 4,
    "splits": 2,
    "first_stage": 2,
    "generator": 5,
    "style_bank": 3,
    "synthesis": 3,
    "segmentation": 4,
    "evaluation": 3,
    "image_quality": 4,
    "statistics": 3,
    "figures": 3,
}
