"""The style encoder: an image becomes an embedding."""

from typing import Any

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from stedm.errors import UserError
from stedm.style.moments import MOMENTS, image_moments


class StyleEncoder(ModelMixin, ConfigMixin):
    """Image → style embedding: features of a network, then the image's colour moments.

    Args:
        name: `conv` (four strided convolutions), `swin_v2_t` (the paper's, torchvision), a timm model, a hub id
            (`hf-hub:owner/name`) or a folder that timm reads (`local-dir:` is added).
        dim: number of features; None keeps those of the network (a frozen encoder has no layer of its own).
        pretrained: load the weights that timm names for the model.

    Raises:
        UserError: the network's weights or name cannot be had.
    """

    @register_to_config
    def __init__(self, name: str = "conv", dim: int | None = 128, pretrained: bool = False):
        super().__init__()
        self.normalise: tuple[list[float], list[float]] | None = None
        self.input_size: int | None = None
        self.network: nn.Module
        if name == "conv":
            self.network, features = convolutions(), 128
        elif name == "swin_v2_t":
            self.network, features = swin()
        else:
            self.network, features, settings = from_timm(name, pretrained)
            self.normalise = (settings["mean"], settings["std"])
            self.input_size = settings["input_size"][-1] if dim is None or pretrained else None
        self.head = nn.Identity() if dim is None else nn.Linear(features, dim)
        self.embedding_dim = (dim or features) + MOMENTS

    def forward(self, images: Tensor) -> Tensor:
        """Embed images.

        Args:
            images: (B, 3, H, W) in [-1, 1].

        Returns:
            (B, `embedding_dim`); the last six are channel means and standard deviations of the image.
        """
        prepared = images
        if self.input_size is not None and images.shape[-1] != self.input_size:
            prepared = F.interpolate(prepared, (self.input_size,) * 2, mode="bicubic", antialias=True)
        if self.normalise is not None:
            mean, deviation = (images.new_tensor(values)[:, None, None] for values in self.normalise)
            prepared = (prepared * 0.5 + 0.5 - mean) / deviation
        return torch.cat([self.head(self.network(prepared)), image_moments(images)], -1)


def convolutions() -> nn.Sequential:
    """Four strided 3×3 convolutions, then means and deviations over space: 64 maps, 128 features."""
    layers: list[nn.Module] = []
    for before, after in ((3, 32), (32, 48), (48, 64), (64, 64)):
        layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.GroupNorm(8, after), nn.SiLU()]
    return nn.Sequential(*layers, SpatialMoments())


class SpatialMoments(nn.Module):
    """Mean and deviation of each map, the statistics that style transfer works with (Huang & Belongie 2017)."""

    def forward(self, maps: Tensor) -> Tensor:
        variance, mean = torch.var_mean(maps, (-2, -1), correction=0)
        return torch.cat([mean, (variance + 1e-5).sqrt()], -1)


def swin() -> tuple[nn.Module, int]:
    """Swin-V2-T from random weights, without stochastic depth: an image has one embedding."""
    from torchvision.models import swin_v2_t
    from torchvision.ops import StochasticDepth

    network = swin_v2_t(weights=None)
    features = network.head.in_features
    network.head = nn.Identity()
    for module in network.modules():
        if isinstance(module, StochasticDepth):
            module.p = 0.0
    return network, features


def from_timm(name: str, pretrained: bool) -> tuple[nn.Module, int, dict[str, Any]]:
    """A timm model without its classifier, its number of features, and what its input should look like."""
    from pathlib import Path

    import timm
    from timm.data import resolve_model_data_config

    network: Any
    local = Path(name).is_dir()
    try:
        network = timm.create_model(
            f"local-dir:{name}" if local else name, pretrained=pretrained or local, num_classes=0, drop_path_rate=0.0
        )
    except Exception as error:  # timm and the hub raise a dozen types for a wrong name or no network
        raise UserError(
            f"style.encoder.name: timm cannot make {name!r} ({error}). Give the name of a timm model, a hub id"
            " (hf-hub:owner/name; needs the network or a filled cache), or a folder with config.json and weights"
        ) from error
    return network, int(network.num_features), dict(resolve_model_data_config(network))
