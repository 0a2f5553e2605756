"""The denoising U-Net, and where layout and style enter it."""

import math
from typing import Any, Literal

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin, UNet2DConditionModel
from diffusers.configuration_utils import register_to_config
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.unets.unet_2d_blocks import UNetMidBlock2D
from torch import Tensor, nn

from stedm import config
from stedm.config import IGNORE_INDEX

PAPER_LAYOUT_CHANNELS = 3
EPSILON = 1e-5
"""Of the norms."""


class StyledMidBlock(UNetMidBlock2D):
    """The paper's middle: between the first residual block and the attention, one that has style in place of time.

    Args:
        channels: of the maps.
        time_dim: width of the time embedding.
        style_dim: width of the style vector.
        head_dim: channels of an attention head.
        groups: of the norms.
    """

    has_cross_attention = True  # so that the U-Net hands on its condition, which is the style vector

    def __init__(self, channels: int, time_dim: int, style_dim: int, head_dim: int, groups: int):
        super().__init__(channels, time_dim, resnet_eps=EPSILON, resnet_groups=groups, attention_head_dim=head_dim)
        self.style_block = ResnetBlock2D(
            in_channels=channels, out_channels=channels, temb_channels=style_dim, groups=groups, eps=EPSILON
        )

    def forward(self, hidden_states: Tensor, temb: Tensor, encoder_hidden_states: Tensor, **unused: Any) -> Tensor:
        """Maps (B, C, h, w), time embedding (B, time_dim), style vector (B, style_dim) → maps (B, C, h, w)."""
        (first, last), (attention,) = self.resnets, self.attentions
        maps = first(hidden_states, temb)
        maps = self.style_block(maps, encoder_hidden_states)
        maps = attention(maps, temb=temb)
        return last(maps, temb)


class StyleLayoutUNet(ModelMixin, ConfigMixin):
    """Noisy latent, time, layout, style condition → prediction.

    Args:
        latent_channels: channels of the latent.
        factor: pixels of the layout along each side of one latent pixel.
        classes: number of classes of the layout.
        channels: channels of each level.
        attention: self- and cross-attention at each level (`injection` everywhere).
        blocks_per_level: residual blocks of each level on the way down.
        head_dim: channels of an attention head.
        style_dim: width of style tokens and of the pooled style vector.
        layout: `unshuffle` folds every layout pixel into channels, with one more channel that marks pixels without
            layout; `halved` halves the one-hot layout bilinearly and mixes it into 3 channels (the paper).
        layout_channels: what a folded layout of more channels is mixed into; None: nothing.
        injection: `everywhere`: style tokens to cross-attention and the pooled vector into the time embedding, which
            scales and shifts every norm; `middle`: the pooled vector is added to every channel of one residual block
            in the middle, in place of the time embedding, and attention is in the middle only (the paper).
    """

    @register_to_config
    def __init__(
        self,
        latent_channels: int,
        factor: int,
        classes: int,
        channels: list[int],
        attention: list[bool],
        blocks_per_level: int,
        head_dim: int,
        style_dim: int,
        layout: Literal["unshuffle", "halved"] = "unshuffle",
        injection: Literal["everywhere", "middle"] = "everywhere",
        layout_channels: int | None = None,
    ):
        super().__init__()
        folded = (classes + 1) * factor**2
        self.mix_layout: nn.Module = nn.Identity()
        if layout == "halved":
            mixed = PAPER_LAYOUT_CHANNELS
            self.mix_layout = nn.Conv2d(classes, mixed, 1)
        elif layout_channels is not None and layout_channels < folded:
            mixed = layout_channels
            self.mix_layout = nn.Conv2d(folded, mixed, 1)
        else:
            mixed = folded
        groups = math.gcd(32, *channels)
        shape: dict[str, Any] = {
            "in_channels": latent_channels + mixed,
            "out_channels": latent_channels,
            "block_out_channels": tuple(channels),
            "layers_per_block": blocks_per_level,
            "norm_num_groups": groups,
        }
        if injection == "middle":
            self.unet = UNet2DConditionModel(
                **shape,
                down_block_types=("DownBlock2D",) * len(channels),
                mid_block_type=None,
                up_block_types=("UpBlock2D",) * len(channels),
            )
            time_dim = self.unet.time_embedding.linear_2.out_features
            self.unet.mid_block = StyledMidBlock(channels[-1], time_dim, style_dim, head_dim, groups)
        else:
            self.unet = UNet2DConditionModel(
                **shape,
                down_block_types=tuple("CrossAttnDownBlock2D" if here else "DownBlock2D" for here in attention),
                up_block_types=tuple("CrossAttnUpBlock2D" if here else "UpBlock2D" for here in reversed(attention)),
                attention_head_dim=tuple(
                    max(1, width // head_dim) for width in channels
                ),  # number of heads, by its old name
                cross_attention_dim=style_dim,
                class_embed_type="projection",
                projection_class_embeddings_input_dim=style_dim,
                resnet_time_scale_shift="scale_shift",
            )

    def forward(self, noisy: Tensor, time: Tensor, layout: Tensor, tokens: Tensor, pooled: Tensor) -> Tensor:
        """Predict.

        Args:
            noisy: (B, C, h, w) noisy latents.
            time: (B,) or () integer time steps.
            layout: (B, H, W) integer labels, H = h·factor; 255 where there is no layout; or what `encode_layout` makes
                of them.
            tokens: (B, T, style_dim) style tokens; unused by the paper's injection.
            pooled: (B, style_dim) style vector.

        Returns:
            (B, C, h, w) prediction (of noise, velocity or clean latent: the scheduler's `prediction_type`).
        """
        maps = self.encode_layout(layout) if layout.ndim == 3 else layout
        inputs = torch.cat([noisy, maps.to(noisy.dtype)], 1)
        if self.config.injection == "middle":
            return self.unet(inputs, time, encoder_hidden_states=pooled).sample
        return self.unet(inputs, time, encoder_hidden_states=tokens, class_labels=pooled).sample

    def encode_layout(self, layout: Tensor) -> Tensor:
        """(B, H, W) labels → (B, channels, h, w)."""
        classes, factor = self.config.classes, self.config.factor
        every = torch.arange(classes + 1, dtype=layout.dtype, device=layout.device)[:, None, None]
        one_hot = torch.where(layout == IGNORE_INDEX, classes, layout)[:, None] == every
        one_hot = one_hot.to(self.unet.conv_in.weight.dtype)
        if self.config.layout == "unshuffle":
            return self.mix_layout(F.pixel_unshuffle(one_hot, factor))
        known = one_hot[:, :classes]
        for _ in range(factor.bit_length() - 1):
            known = F.interpolate(known, scale_factor=0.5, mode="bilinear")
        return self.mix_layout(known)


def build_unet(options: config.Generator, classes: int, factor: int, latent_channels: int) -> StyleLayoutUNet:
    """The denoiser of a generator, for latents of so many channels, each pixel of which is factor × factor pixels."""
    return StyleLayoutUNet(
        latent_channels=latent_channels,
        factor=factor,
        classes=classes,
        channels=options.unet.channels,
        attention=options.unet.attention,
        blocks_per_level=options.unet.blocks_per_level,
        head_dim=options.unet.head_dim,
        style_dim=options.style.encoder.dim,
        layout=options.unet.layout,
        injection=options.style.injection,
        layout_channels=options.unet.layout_channels,
    )
