"""The segmentation network and the arms, which are ways of training it."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from stedm.config.base import Count, Name, PathName, Section, Seed, Text, once
from stedm.config.training import Training

Ratio = Annotated[float, Field(ge=0)]
Augmentation = Literal["none", "flips", "stain_light", "stain", "strong"]
Application = Literal["as_is", "normalise", "adabn"]


class Loss(Section):
    cross_entropy: Annotated[float, Field(ge=0)] = 0.1
    """Weight of the cross-entropy."""
    dice: Annotated[float, Field(ge=0)] = 0.9
    """Weight of the Dice loss."""
    crop_margin: Annotated[int, Field(ge=0)] = 0
    """Border in pixels left out of the loss."""

    @model_validator(mode="after")
    def something_to_minimise(self) -> Self:
        if self.cross_entropy + self.dice == 0:
            raise ValueError("cross_entropy and dice are both 0, which leaves nothing to learn; raise one")
        return self


class Network(Section):
    """The network and its training."""

    encoder: str = "resnet18"
    """An encoder of segmentation_models_pytorch, or `tu-` and a timm model."""
    encoder_weights: PathName | None = None
    """What the encoder starts from: a name that smp has for it, a hub id (`hf-hub:owner/name`) or a folder that timm
    reads; null: random weights."""
    encoder_depth: Annotated[int, Field(ge=3, le=5)] = 5
    """How often the encoder halves the resolution."""
    decoder_channels: list[Count] = [256, 128, 64, 32, 16]
    """Channels of the decoder, one number for each level."""
    loss: Loss = Loss()
    """What it minimises."""
    synthetic_ratio: Ratio = 1.0
    """Synthetic images for each real patch of a batch, in the arms that have sources. They come on top of
    `training.batch_size`, which counts real patches."""
    training: Training
    """Its training."""

    @model_validator(mode="after")
    def decoder_fits(self) -> Self:
        if len(self.decoder_channels) != self.encoder_depth:
            raise ValueError(f"decoder_channels needs {self.encoder_depth} values (encoder_depth), one for each level")
        return self


class Segmentation(Network):
    seeds: Annotated[list[Seed], Field(min_length=1), AfterValidator(once)] = [0]
    """One network of each arm and split is trained with each seed."""


class ArmData(Section):
    """What a network is trained on."""

    sources: list[Name] = []
    """Sources of synthetic images, each with an equal share of them."""
    annotations: Literal["annotated", "all"] = "annotated"
    """`all`: the annotations of the unannotated patients too, where the sheet has them: the upper bound."""
    augmentation: Augmentation = "flips"
    """How images are changed at each step; `stedm.segmentation.augmentation` says what each does."""
    synthetic_ratio: Ratio | None = None
    """Synthetic images for each real patch of a batch (default: the segmentation section's)."""
    synthetic_images: Count | None = None
    """Train on the first so many images of each source (default: all)."""
    random_weights: bool = False
    """Start from random weights whatever `segmentation.encoder_weights` says, to show what those are worth."""

    @model_validator(mode="after")
    def synthetic_needs_sources(self) -> Self:
        if not self.sources and (self.synthetic_ratio is not None or self.synthetic_images is not None):
            raise ValueError("synthetic_ratio and synthetic_images are for arms with sources: name one")
        if repeated := sorted({name for name in self.sources if self.sources.count(name) > 1}):
            raise ValueError(f"sources: {', '.join(repeated)} appears twice; name each source once")
        return self


class Arm(ArmData):
    """One way of training the segmentation network."""

    label: Text
    """Its name in tables and figures."""
    application: Application = "as_is"
    """How the network is applied to a test slide: `as_is`; `normalise`, the slide recoloured to the training slides;
    `adabn`, the statistics of batch normalisation taken from the slide."""

    @property
    def data(self) -> ArmData:
        """What its network is trained on: arms in which it is the same share one network."""
        return ArmData(**self.model_dump(include=set(ArmData.model_fields)))
