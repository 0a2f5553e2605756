"""A version for each stage: raise it when the stage's results change, and studies made before redo that stage."""

VERSIONS = {
    "phantoms": 2,
    "check": 5,
    "patches": 6,
    "splits": 2,
    "first_stage": 5,
    "latents": 7,
    "predicted_layouts": 1,
    "generator": 9,
    "style_bank": 8,
    "synthesis": 10,
    "segmentation": 7,
    "evaluation": 6,
    "image_quality": 8,
    "statistics": 7,
    "figures": 7,
    "report": 3,
}
