"""A version for each stage: raise it when the stage's results change, and studies made before redo that stage."""

VERSIONS = {
    "phantoms": 1,
    "check": 4,
    "patches": 6,
    "splits": 2,
    "first_stage": 2,
    "latents": 3,
    "generator": 5,
    "style_bank": 4,
    "synthesis": 5,
    "segmentation": 6,
    "evaluation": 4,
    "image_quality": 5,
    "statistics": 4,
    "figures": 4,
}
