"""A version for each stage: raise it when the stage's results change, and studies made before redo that stage."""

VERSIONS = {
    "phantoms": 1,
    "check": 3,
    "patches": 5,
    "splits": 2,
    "first_stage": 2,
    "latents": 3,
    "generator": 5,
    "style_bank": 4,
    "synthesis": 4,
    "segmentation": 5,
    "evaluation": 4,
    "image_quality": 4,
    "statistics": 3,
    "figures": 3,
}
