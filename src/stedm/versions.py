"""A version for each stage: raise it when the stage's results change, and studies made before redo that stage."""

VERSIONS = {
    "phantoms": 2,
    "check": 5,
    "patches": 6,
    "splits": 2,
    "first_stage": 4,
    "latents": 6,
    "predicted_layouts": 1,
    "generator": 8,
    "style_bank": 7,
    "synthesis": 8,
    "segmentation": 7,
    "evaluation": 5,
    "image_quality": 7,
    "statistics": 7,
    "figures": 7,
    "report": 3,
}
