"""A version for each stage: raise it when the stage's results change, and studies made before redo that stage."""

VERSIONS = {
    "demo": 1,
    "check": 2,
    "patches": 3,
    "splits": 2,
    "first_stage": 1,
    "generator": 1,
    "style_bank": 1,
    "synthesis": 1,
    "segmentation": 2,
    "evaluation": 2,
    "image_quality": 1,
    "statistics": 1,
    "figures": 1,
}
