"""The model card of a generator: README.md of its folder, in the form that the Hugging Face hub reads."""

from collections.abc import Sequence
from pathlib import Path

from stedm import config
from stedm.models import CODE
from stedm.store import PatchFile

SAMPLES = "samples.png"
"""Beside the card: what the generator makes of some layouts and styles (`stedm.diffusion.samples`)."""


def model_card(
    options: config.GeneratorOptions,
    annotated: Sequence[PatchFile],
    unannotated: Sequence[PatchFile],
    factor: int,
) -> str:
    """What the generator is, what it was trained on, and how it is loaded. It names no slide and no patient.

    Args:
        options: it was trained with.
        annotated: patch files of the annotated slides.
        unannotated: of the others.
        factor: pixels of an image along each side of one latent pixel.
    """
    generator, size = options.generator, (annotated or unannotated)[0].patch_size
    frozen = generator.style.sampler != "none" and not generator.style.encoder.trainable
    packages = ["torch", "diffusers", "scipy"]
    if generator.style.sampler != "none" and not frozen:
        packages += {"conv": [], "swin_v2_t": ["torchvision"]}.get(generator.style.encoder.name, ["timm"])
    return f"""---
library_name: diffusers
license: unknown
tags: [stedm, histopathology, diffusion, semantic-synthesis]
---

# Generator {options.generator_name}

Generates images of tissue that follow a layout (a segmentation map){styled_as(generator.style)}. Made with STEDM, an
implementation of style-extracting diffusion models ([Öttl et al. 2024](https://arxiv.org/abs/2403.14429)), for research
and not for diagnosis.

![Layouts on the left, style images at the top, and what the generator makes of them]({SAMPLES})

## Data

| slides | patients | patches |
|---|---|---|
{row("annotated", annotated)}
{row("not annotated", unannotated)}

Images: RGB, {size} × {size} px{scale(annotated or unannotated)}. Labels of layouts:
{", ".join(f"{label} = {name}" for label, name in enumerate(options.class_names))}; 255 leaves a pixel open.
The generator was trained for {generator.training.steps:,} steps of {generator.training.batch_size} images (preset
{generator.preset}). `history.csv` has the loss, and `provenance.json`, which is not published, all options and inputs.

## Licence

Not stated: `license` at the top of this file is `unknown`. Whoever has the rights to the training images decides it.

## Use

```python
import torch
from diffusers import DiffusionPipeline

pipeline = DiffusionPipeline.from_pretrained("<this folder>", trust_remote_code=True)
layout = torch.zeros(1, {size}, {size}, dtype=torch.long)  # labels; sides are multiples of {factor}
{example(generator, frozen)}
```

This runs the folder's own code, `{CODE}`, and needs the packages {", ".join(packages)}. With the package stedm, no code
from the folder is run:

```python
from stedm.diffusion.pipeline import StyleLayoutPipeline

pipeline = StyleLayoutPipeline.from_pretrained("<this folder>")
```
"""


def styled_as(style: config.Style) -> str:
    return "" if style.sampler == "none" else " in the style of example images"


def row(role: str, files: Sequence[PatchFile]) -> str:
    """Of the table of data."""
    patients, patches = len({file.patient for file in files}), sum(map(len, files))
    return f"| {len(files)} {role} | {patients} | {patches:,} |"


def scale(files: Sequence[PatchFile]) -> str:
    """The resolutions of the images."""
    found = sorted({round(float(file.attributes.get("mpp", "nan")), 4) for file in files})
    known = [f"{mpp:g}" for mpp in found if mpp > 0]
    return f" at {' or '.join(known[:5])} µm per pixel" if known else ""


def example(generator: config.Generator, frozen: bool) -> str:
    """How images are generated: with style images, embeddings of them, or neither."""
    call = "images = pipeline(layout=layout{}).images  # (1, 3, H, W) in [-1, 1]"
    if generator.style.sampler == "none":
        return call.format("")
    if not frozen:
        lines = [
            "style = torch.rand(1, 4, 3, 64, 64) * 2 - 1  # four images (RGB in [-1, 1]) of one slide, of any size"
        ]
        return "\n".join([*lines, call.format(", style_images=style")])
    name = Path(generator.style.encoder.name).name  # of a folder
    lines = [
        f"# embeddings (1, n, D) of n images by {name}, which is not kept here, and the moments of",
        "# their slide, both as `stedm style-bank embed` writes them",
    ]
    moments = ", style_moments=moments" if generator.style.canonical else ""
    return "\n".join([*lines, call.format(f", style_embeddings=embeddings{moments}")])
