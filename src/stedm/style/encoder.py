"""The style encoder: an image becomes an embedding."""

from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from stedm.errors import UserError
from stedm.models import GENERATOR_CODE, load_diffusers_model, model_folder, read_config
from stedm.style.moments import MOMENTS, image_moments


class StyleEncoder(ModelMixin, ConfigMixin):
    """Image → style embedding: features of a network, then the image's moments of colour and texture.

    Args:
        name: `conv` (four strided convolutions), `swin_v2_t` (the paper's, torchvision), a timm model, a hub id
            (`hf-hub:owner/name`) or a folder that timm reads (`local-dir:` is added).
        dim: number of features; None keeps those of the network (a frozen encoder has no layer of its own).
        pretrained: load the weights that timm names for the model (folders and hub ids always have theirs loaded).
        preparation: mean and std of the input in [0, 1], and the size that images are brought to (None: as they are);
            what the timm model needs where it is not given.
        size: larger images are brought to so many pixels before the network sees them, but not before their moments
            are taken; None: they are not.

    Raises:
        UserError: the network's weights or name cannot be had.
    """

    @register_to_config
    def __init__(
        self,
        name: str = "conv",
        dim: int | None = 128,
        pretrained: bool = False,
        preparation: dict | None = None,
        size: int | None = None,
    ):
        super().__init__()
        self.network: nn.Module
        self.preparation, self.size = preparation, size
        if name == "conv":
            self.network, features = convolutions(), 128
        elif name == "swin_v2_t":
            self.network, features = swin()
        else:
            self.network, features, architecture, needed = from_timm(name, pretrained, dim is None)
            self.preparation = preparation or needed
            # a saved encoder has its weights and needs neither the folder nor the hub that they came from
            self.register_to_config(name=architecture, pretrained=False, preparation=self.preparation)
        self.head = nn.Identity() if dim is None else nn.Linear(features, dim)
        self.embedding_dim = (dim or features) + MOMENTS

    def forward(self, images: Tensor) -> Tensor:
        """Embed images.

        Args:
            images: (B, 3, H, W) in [-1, 1].

        Returns:
            (B, `embedding_dim`) float32; the last 27 are `stedm.style.moments.image_moments`.
        """
        smaller = images if self.size is None or images.shape[-1] <= self.size else resized(images, self.size)
        prepared = smaller if self.preparation is None else prepare(smaller, self.preparation)
        return torch.cat([self.head(self.network(prepared.to(self.dtype))), image_moments(images)], -1)


def load_encoder(generator: Path) -> StyleEncoder:
    """The style encoder of a generator's folder.

    Raises:
        UserError: there is none, it is damaged, or names an architecture that timm does not have.
    """
    import timm

    folder = model_folder(generator, GENERATOR_CODE) / "style_encoder"
    config = read_config(folder, "config.json", {"StyleEncoder"})
    name = config.get("name")
    if config.get("pretrained") or (name not in ("conv", "swin_v2_t") and not timm.is_model(str(name))):
        raise UserError(f"{folder / 'config.json'}: names the encoder {name!r}, which is none that stedm saves")
    return load_diffusers_model(folder, StyleEncoder)


def prepare(images: Tensor, preparation: dict[str, Any]) -> Tensor:
    """Images (B, 3, H, W) in [-1, 1] as a timm model wants them: of its size, its mean and deviation removed."""
    size = preparation["size"]
    if size is not None and images.shape[-1] != size:
        images = resized(images, size)
    mean, deviation = (on_device(tuple(preparation[key]), images.device) for key in ("mean", "std"))
    return (images * 0.5 + 0.5 - mean) / deviation


def resized(images: Tensor, size: int) -> Tensor:
    """Images (B, 3, H, W) as (B, 3, size, size)."""
    return F.interpolate(images, (size, size), mode="bicubic", antialias=True)


@cache
def on_device(values: tuple[float, ...], device: torch.device) -> Tensor:
    """(C, 1, 1) values of channels, copied to the device once."""
    return torch.tensor(values, device=device)[:, None, None]


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


def from_timm(name: str, pretrained: bool, frozen: bool) -> tuple[nn.Module, int, str, dict[str, Any]]:
    """A timm model without its classifier, its number of features, its architecture, and how its input is prepared.

    Images are brought to the size that the model was trained with where it is frozen, or takes no other.
    """
    import timm
    from timm.data import resolve_model_data_config

    network: Any
    local = Path(name).is_dir()
    weights = pretrained or local or name.startswith("hf-hub:")
    try:
        network = timm.create_model(
            f"local-dir:{name}" if local else name, pretrained=weights, num_classes=0, drop_path_rate=0.0
        )
    except Exception as error:  # timm and the hub raise a dozen types for a wrong name or no network
        raise UserError(
            f"the encoder {name!r}: timm cannot make it ({error}). Give the name of a timm model, a hub id"
            " (hf-hub:owner/name; needs the network or a filled cache), or a folder with config.json and weights"
        ) from error
    settings = resolve_model_data_config(network)
    fixed = frozen or network.pretrained_cfg.get("fixed_input_size", False)
    size = int(settings["input_size"][-1]) if fixed else None
    preparation = {"mean": list(settings["mean"]), "std": list(settings["std"]), "size": size}
    return network, int(network.num_features), network.pretrained_cfg["architecture"], preparation
