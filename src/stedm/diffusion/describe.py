"""What a generator is made of and what it costs, without building it in memory."""

from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from stedm import config
from stedm.diffusion.model import StyleLayoutUNet, build_unet


def describe(
    options: config.Generator, classes: int, patch_size: int, factor: int, latent_channels: int
) -> dict[str, Any]:
    """Parameters, cost, and where style and layout enter.

    Args:
        options: the generator.
        classes: of the layout.
        patch_size: side of an image in pixels.
        factor: pixels of the image along each side of one latent pixel.
        latent_channels: channels of the latent.

    Returns:
        JSON-like: unet_parameters; unet_forward_gflop, of one image (two operations for each multiply-add, as
        `torch.utils.flop_counter` counts); latent (C, h, w); style_enters and layout_enters, names of modules.
    """
    style = options.style
    side = patch_size // factor
    with torch.device("meta"):
        unet = build_unet(options, classes, factor, latent_channels)
        inputs = (
            torch.empty(1, latent_channels, side, side),
            torch.zeros(1, dtype=torch.long),
            torch.zeros(1, patch_size, patch_size, dtype=torch.long),
            torch.empty(1, style.tokens, style.encoder.dim),
            torch.empty(1, style.encoder.dim),
        )
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            unet(*inputs)
    return {
        "preset": options.preset,
        "unet_parameters": sum(parameter.numel() for parameter in unet.parameters()),
        "unet_forward_gflop": counter.get_total_flops() / 1e9,
        "latent": [latent_channels, side, side],
        "style_enters": style_places(unet, style),
        "layout_enters": ["unet.conv_in"],
        "style_encoder_learns": style.encoder.trainable and not options.as_released,
    }


def style_places(unet: StyleLayoutUNet, style: config.Style) -> list[str]:
    """Names of the modules that style goes into."""
    if style.sampler == "none":
        return []
    if style.injection == "middle":
        return ["unet.mid_block.style_block"]
    attention = [name for name, module in unet.named_modules() if name.endswith("attn2")]
    return ["unet.class_embedding", *attention]
