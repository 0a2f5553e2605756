"""The segmentation network: how it is built, from which weights, what it was trained on, and its predictions."""

import difflib
from functools import cache
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import segmentation_models_pytorch as smp
import timm
import torch
from numpy.typing import NDArray
from pydantic import Field, ValidationError
from safetensors import safe_open
from safetensors.torch import load_file
from segmentation_models_pytorch.encoders import get_encoder_names
from torch import Tensor, nn

from stedm.config import Device, Network, Patches, Section, TissueClass
from stedm.config.base import Positive
from stedm.config.training import DEFAULT_DEVICE
from stedm.device import autocast, device, made_fast
from stedm.errors import UserError
from stedm.models import loading, model_folder
from stedm.seals import read_json

WRONG_NAME = (KeyError, ValueError, RuntimeError, TypeError, IndexError, AssertionError)
"""What smp and timm raise for encoders, depths and weights that they do not have."""

Colour = tuple[float, float, float]


class Normalisation(Section):
    """Mean and deviation of each colour channel, in [0, 1], that the encoder's weights were trained with."""

    mean: Colour = (0.485, 0.456, 0.406)
    std: tuple[Positive, Positive, Positive] = (0.229, 0.224, 0.225)
    """Of ImageNet, where weights are random."""

    def apply(self, images: Tensor) -> Tensor:
        """What the network is fed: (B, P, P, 3) uint8 RGB → (B, 3, P, P) float32, mean and deviation removed.

        The memory stays channels last, which the convolutions here are a fifth faster with.
        """
        mean, std = (grey_levels(value, images.device) for value in (self.mean, self.std))
        return ((images - mean) / std).movedim(-1, 1)


@cache
def grey_levels(values: Colour, device: torch.device) -> Tensor:
    """(3,) from [0, 1] to 8 bits, copied to the device once."""
    return 255 * torch.tensor(values, device=device)


class Moments(Section):
    """Colours and texture of slides: `stedm.style.moments`, of images in [-1, 1]."""

    mean: Colour
    covariances: Annotated[list[tuple[Colour, Colour, Colour]], Field(min_length=1, max_length=99)]
    """Of the colours, in each band from fine to coarse."""


class Dataset(Section):
    """What a network was trained on, and so what it wants to see: `dataset.json` of its folder."""

    classes: list[TissueClass]
    patches: Patches
    normalisation: Normalisation
    reference: Moments
    """Mean over the training slides, to which `application: normalise` recolours."""


class TrainedNetwork(NamedTuple):
    """A network as it was trained."""

    unet: nn.Module
    """On the device, in eval mode: normalised (B, 3, P, P) float32 → (B, C, P, P) logits."""
    dataset: Dataset
    device: Device = DEFAULT_DEVICE
    """How CUDA is used."""


def build_network(options: Network, classes: int) -> tuple[smp.Unet, Normalisation]:
    """The U-Net of the options, with random weights or the encoder's published ones, and the input that these expect.

    Raises:
        UserError: no such encoder, depth or weights, or the weights cannot be downloaded.
    """
    if options.encoder_weights is None:
        return build_unet(options, None, classes), Normalisation()
    if "/" in options.encoder_weights:
        unet = build_unet(options, None, classes)
        return unet, load_timm_weights(unet, options.encoder, options.encoder_weights)
    if options.encoder.startswith("tu-") and options.encoder_weights != "imagenet":  # which smp takes for the same
        raise UserError(
            f"segmentation.encoder_weights: {options.encoder!r} has no weights {options.encoder_weights!r}; set it to"
            " imagenet, a hub id (hf-hub:owner/name), a folder (./name for one that lies here) or null"
        )
    unet = build_unet(options, options.encoder_weights, classes)
    expected = smp.encoders.get_preprocessing_params(options.encoder, options.encoder_weights)
    return unet, Normalisation(mean=expected["mean"], std=expected["std"])


def build_unet(options: Network, weights: str | None, classes: int) -> smp.Unet:
    """The U-Net, its encoder with weights that smp has a name for.

    Raises:
        UserError: as `build_network`.
    """
    try:
        return smp.Unet(
            encoder_name=options.encoder,
            encoder_depth=options.encoder_depth,
            encoder_weights=weights,
            decoder_channels=options.decoder_channels,
            classes=classes,
        )
    except Exception as error:  # smp, timm and the hub raise a dozen types
        asked = f"{options.encoder!r} with encoder_weights {weights!r}"
        if isinstance(error, OSError) or (weights and not isinstance(error, WRONG_NAME)):
            message = (
                f"segmentation.encoder_weights: the weights of {asked} cannot be downloaded ({first_line(error)}). Go"
                " online once, or copy the hub's cache here; null starts from random weights"
            )
        else:
            close = difflib.get_close_matches(options.encoder, smp.encoders.get_encoder_names(), 1)
            hint = f"Did you mean {close[0]!r}? " if close and close[0] != options.encoder else ""
            message = (
                f"segmentation.encoder: {asked} and encoder_depth {options.encoder_depth} cannot be built"
                f" ({first_line(error)}). {hint}Encoders: https://smp.readthedocs.io/en/latest/encoders.html, or"
                " tu-<any timm model>"
            )
        raise UserError(message) from error


def load_timm_weights(unet: smp.Unet, encoder: str, weights: str) -> Normalisation:
    """Load an encoder's weights from timm's format.

    Args:
        unet: its encoder gets the weights.
        encoder: its name, `tu-` and a timm model.
        weights: a folder, or a hub id (`hf-hub:owner/name`).

    Returns:
        The input that the weights expect.

    Raises:
        UserError: the weights cannot be had, or are another encoder's.
    """
    source: Any
    try:
        source = timm.create_model(
            weights if weights.startswith("hf-hub:") else f"local-dir:{weights}", pretrained=True, features_only=True
        )
    except Exception as error:  # timm and the hub raise a dozen types
        raise UserError(
            f"segmentation.encoder_weights: {weights!r} cannot be loaded ({first_line(error)}). Give a folder with"
            " config.json and model.safetensors in timm's format, or hf-hub:<owner>/<name> (needs the network once, or"
            " a copy of the hub's cache); null starts from random weights"
        ) from error
    found = source.pretrained_cfg
    if encoder.split(".")[0] != f"tu-{found['architecture']}":
        raise UserError(
            f"segmentation.encoder_weights: {weights!r} are weights of {found['architecture']}; set"
            f" segmentation.encoder to tu-{found['architecture']} (it is {encoder!r})"
        )
    values = source.state_dict()
    model = unet.encoder.model
    model.load_state_dict({name: values[name] for name in model.state_dict()})  # without stages below encoder_depth
    return Normalisation(mean=found["mean"], std=found["std"])


def first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error.args[0] if error.args else error).splitlines()[0][:160]}"


class NetworkSettings(Section):
    """What we choose of a network, within what can be built: from `config.json` of its folder."""

    encoder_name: str
    encoder_depth: Annotated[int, Field(ge=3, le=5)]
    decoder_channels: Annotated[list[Annotated[int, Field(ge=1, le=4096)]], Field(min_length=3, max_length=5)]
    classes: Annotated[int, Field(ge=1, le=255)]


def load_network(folder: Path, options: Device = DEFAULT_DEVICE) -> TrainedNetwork:
    """The network that `train_network` wrote, on the device, in eval mode, for use with these options.

    It is built from the few settings that we choose; its class, weights and encoder are none that a stranger names.

    Raises:
        UserError: there is no such network in the folder, or it is damaged.
    """
    folder = model_folder(folder)
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder}: holds no segmentation network (config.json is missing); train it first")
    found = read_json(folder / "config.json")
    dataset = load_dataset(folder)
    with loading(folder, "a segmentation network"):
        settings = NetworkSettings.model_validate({key: found[key] for key in NetworkSettings.model_fields})
        name = settings.encoder_name
        known = timm.is_model(name.removeprefix("tu-")) if name.startswith("tu-") else name in get_encoder_names()
        if found["_model_class"] != "Unet" or not known:
            raise ValueError(f"it is a {found['_model_class']} with encoder {name!r}, not a Unet with a known one")
        check_sizes(settings, folder / "model.safetensors")
        unet = smp.Unet(encoder_weights=None, **settings.model_dump())
        unet.load_state_dict(load_file(folder / "model.safetensors"))
    unet.to(device(), memory_format=torch.channels_last).eval()
    made_fast(options, unet)
    return TrainedNetwork(unet, dataset, options)


def check_sizes(settings: NetworkSettings, weights: Path) -> None:
    """Compare the weights that the settings ask for with those that a file has, before memory is taken for any.

    Raises:
        ValueError: they have other names or shapes.
    """
    with torch.device("meta"):
        unet = smp.Unet(encoder_weights=None, **settings.model_dump())
    needed = {name: list(value.shape) for name, value in unet.state_dict().items()}
    with safe_open(weights, "pt") as file:
        found = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118 (it is no dictionary)
    if wrong := [name for name in needed.keys() | found.keys() if needed.get(name) != found.get(name)]:
        raise ValueError(f"weights that do not fit: {', '.join(sorted(wrong)[:3])}")


def load_dataset(folder: Path) -> Dataset:
    """What the network of a folder was trained on.

    Raises:
        UserError: the folder does not say.
    """
    path = folder / "dataset.json"
    try:
        return Dataset.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValidationError) as error:
        raise UserError(
            f"{path}: does not say the network's classes, resolution and colours ({error}); train it again with this"
            " version"
        ) from error


@torch.inference_mode()
def predict_probabilities(network: TrainedNetwork, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Class probabilities of patches.

    Args:
        network: from `load_network`.
        images: (B, P, P, 3) uint8 RGB; P a multiple of 2 to the power of the encoder's depth.

    Returns:
        (B, C, P, P) float32, summing to 1 over C.
    """
    with autocast(network.device):
        scores = network.unet(network.dataset.normalisation.apply(torch.from_numpy(images).to(device())))
    return scores.float().softmax(1).cpu().numpy()
