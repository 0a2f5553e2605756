"""A version for each stage: raise it when the stage's results change, and studies made before redo that stage."""

VERSIONS = {
    "phantoms": 1,
    "check": 5,
    "patches": 6,
    "splits": 2,
    "first_stage": 3,
    "latents": 5,
    "predicted_layouts": 1,
    "generator": 7,
    "style_bank": 6,
    "synthesis": 7,
    "segmentation": 6,
    "evaluation": 5,
    "image_quality": 6,
    "statistics": 7,
    "figures": 6,
    "report": 2,
}
