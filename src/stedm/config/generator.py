"""First stage, style, generator and synthesis."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from stedm.config.base import CHANGES_NO_RESULT, Count, Fraction, Name, Positive, Section, ascending
from stedm.config.presets import PRESETS
from stedm.config.training import Training


class NoFirstStage(Section):
    kind: Literal["none"] = "none"
    """Generators work on pixels."""
    unshuffle: Literal[1, 2, 4, 8] = 1
    """Fold blocks of n×n pixels into channels, as their cosine coefficients."""


class TrainedFirstStage(Section):
    kind: Literal["trained"]
    """Generators work on the latents of an autoencoder that is trained here."""
    channels: Annotated[list[Count], Field(min_length=1)] = [32, 64, 64]
    """Channels of each level; each level but the first halves the resolution."""
    latent_channels: Count = 4
    """Channels of the latents."""
    kl_weight: Annotated[float, Field(ge=0)] = 1e-6
    """Weight of the Kullback–Leibler term in the loss."""
    training: Training = Training(steps=2000, batch_size=16, learning_rate=1e-3, warmup_steps=50, ema_decay=0.99)
    """Its training."""


class PretrainedFirstStage(Section):
    kind: Literal["pretrained"]
    """Generators work on the latents of an existing autoencoder."""
    path: str
    """Folder or hub id of a diffusers autoencoder (`AutoencoderKL`, `VQModel`, `AutoencoderTiny`, `AutoencoderDC`)."""
    subfolder: str | None = None
    """Folder of the autoencoder within `path`."""


FirstStage = Annotated[NoFirstStage | TrainedFirstStage | PretrainedFirstStage, Field(discriminator="kind")]


class StyleEncoder(Section):
    name: str = "conv"
    """`conv` (small, ours), `swin_v2_t` (torchvision, random weights), a timm model, or its folder."""
    trainable: bool = True
    """Trained with the generator (the paper); false: frozen, and the generator learns from cached embeddings."""
    dim: Count = 128
    """Length of an embedding."""
    pretrained: bool = False
    """Load the weights that timm names for this model (needs the hub, or a local cache)."""
    size: Count | None = None
    """Larger images are brought to so many pixels before the network sees them; null: to the size that a frozen timm
    model was trained with, and others are left as they are."""

    @model_validator(mode="after")
    def frozen_needs_weights(self) -> Self:
        ours = self.name in ("conv", "swin_v2_t")
        named = self.pretrained or self.name.startswith("hf-hub:") or Path(self.name).is_dir()
        if not self.trainable and (ours or not named):
            raise ValueError(
                f"the encoder {self.name!r} has random weights, and frozen it would keep them; name a folder that is"
                " there, a hub id (hf-hub:owner/name), or a timm model with pretrained: true"
            )
        return self


class Style(Section):
    sampler: Literal["none", "augmented", "nearby", "multi_patch"] = "multi_patch"
    """Which images show the style: `none`; `augmented`, the image itself; `nearby`, an offset patch; `multi_patch`,
    patches of the same slide."""
    images: Count = 4
    """Size of a style set in training."""
    encoder: StyleEncoder = StyleEncoder()
    """The network that reads the style of an image."""
    aggregator: Literal["mean", "max", "linear", "set_transformer"] = "mean"
    """How the embeddings of a style set are combined."""
    tokens: Count = 4
    """Style tokens for cross-attention."""
    injection: Literal["everywhere", "middle"] = "everywhere"
    """`everywhere`: tokens to cross-attention and a vector into the time embedding; `middle`: one block, the paper."""
    dropout: Fraction = 0.1
    """Probability that training shows no style; guidance needs it."""
    null: Literal["learned", "constant_image"] = "learned"
    """What stands for no style: a learned vector, or the embedding of a grey image (the paper)."""
    exclude_overlap: bool = True
    """Never show pixels of the target in its own style set."""
    canonical: bool = False
    """Learn from images recoloured from the colours and spectrum of their slide to the mean of all training slides, and
    give generated ones those of the style's slide."""

    @model_validator(mode="after")
    def one_image(self) -> Self:
        if self.sampler in ("augmented", "nearby") and self.images != 1:
            raise ValueError(f"the sampler {self.sampler} shows one style image: set images to 1")
        if not self.encoder.trainable and self.sampler != "multi_patch":
            raise ValueError(
                "a frozen style encoder reads its embeddings from the style bank: set sampler to multi_patch"
            )
        if not self.encoder.trainable and self.null == "constant_image":
            raise ValueError("a frozen style encoder is not loaded to embed a constant image: set null to learned")
        return self


class UNet(Section):
    channels: Annotated[list[Count], Field(min_length=2)] = [128, 256, 512, 768]
    """Channels of each level."""
    attention: list[bool] = [False, False, True, True]
    """Self- and cross-attention at each level."""
    blocks_per_level: Count = 2
    """Residual blocks at each level."""
    head_dim: Count = 32
    """Channels of an attention head."""
    layout: Literal["unshuffle", "halved"] = "unshuffle"
    """`unshuffle`: every layout pixel, folded into channels; `halved`: bilinear halvings and a 1×1 conv, the paper."""
    layout_channels: Count | None = None
    """A layout folded into more channels is mixed into so many; null: it is not mixed."""

    @model_validator(mode="after")
    def same_length(self) -> Self:
        if len(self.attention) != len(self.channels):
            raise ValueError(f"attention has {len(self.attention)} values for {len(self.channels)} levels of channels")
        return self


class Objective(Section):
    prediction: Literal["epsilon", "v_prediction", "sample"] = "sample"
    """What the network predicts: the noise, the velocity, or the clean image (`sample`)."""
    loss: Literal["l1", "l2"] = "l2"
    """Mean absolute (`l1`) or squared (`l2`) error."""
    min_snr_gamma: Positive | None = 5.0
    """Cap of the signal-to-noise ratio in the loss weights (Hang et al. 2023); null: unweighted."""
    snr_floor: Annotated[float, Field(ge=0)] = 0.3
    """Floor under that ratio, so that the noisiest steps do not vanish from the loss."""
    timesteps: Count = 1000
    """Number of noise levels."""
    beta_schedule: Literal["scaled_linear", "squaredcos_cap_v2"] = "squaredcos_cap_v2"
    """How noise grows over them; `scaled_linear` uses the next two keys."""
    beta_start: Positive = 0.0001
    """First β of `scaled_linear`."""
    beta_end: Positive = 0.02
    """Last β of `scaled_linear`."""

    @model_validator(mode="after")
    def finite_weights(self) -> Self:
        if self.prediction == "epsilon" and self.min_snr_gamma is not None and self.snr_floor:
            raise ValueError("snr_floor must be 0 with prediction: epsilon, or the noisiest steps outweigh all others")
        return self


Strength = Annotated[float, Field(gt=0, le=1)]


class Sampling(Section):
    sampler: Literal["ddim", "dpm_solver"] = "dpm_solver"
    """How images are sampled."""
    steps: Count = 20
    """Steps of the sampler, from pure noise."""
    strength: Strength = 1.0
    """1: images start from noise; below, from annotated patches (SDEdit, Meng et al. 2022), moved as their layouts are,
    with so much of the way to pure noise added. There are as many steps fewer."""
    guidance_scale: Annotated[float, Field(ge=1)] = 1.5
    """Guidance towards the style; 1: none."""
    layout_guidance_scale: Annotated[float, Field(ge=1)] = 1.0
    """Guidance towards the layout; 1: none. Each kind of guidance adds the cost of unguided sampling."""
    guidance_interval: Annotated[tuple[Fraction, Fraction], AfterValidator(ascending)] = (0.0, 1.0)
    """Guide only at times in this interval of [0, 1], 1 being pure noise (Kynkäänniemi et al. 2024)."""
    batch_size: Count | None = None
    """Images that are generated at a time; null: 32 on the CPU, with CUDA what free memory holds."""


class PredictedLayouts(Section):
    """Layouts of unannotated patches, predicted by the network of an arm."""

    arm: Name
    """Arm whose network (of the first seed) predicts."""
    confidence: Fraction = 0.8
    """Pixels whose class is less probable are left open."""
    share: Fraction = 0.5
    """Of the unannotated patches; the others have a null layout."""


class Generator(Section):
    """One trained diffusion model: style sampler, aggregator, training data, preset."""

    preset: Annotated[str, CHANGES_NO_RESULT] = "improved"
    """Where its other keys come from: `improved`, for real studies; `paper`, the published method; `demo`, for two CPU
    cores."""
    data: Literal["zero_shot", "semi_supervised"] = "semi_supervised"
    """`zero_shot`: annotated patches only (the paper); `semi_supervised`: unannotated ones too, with a null layout."""
    annotated_fraction: Fraction = 0.5
    """Share of annotated patches in a batch of semi-supervised training."""
    layout_dropout: Fraction = 0.1
    """Probability that an annotated patch is shown without its layout."""
    unannotated_layouts: PredictedLayouts | None = None
    """null: unannotated patches have a null layout, so that layouts are learned in annotated styles alone."""
    style: Style = Style()
    """How style is read, and how it enters the U-Net."""
    unet: UNet = UNet()
    """The denoising U-Net."""
    objective: Objective = Objective()
    """What it learns."""
    training: Training
    """Its training."""
    sampling: Annotated[Sampling, CHANGES_NO_RESULT] = Sampling()
    """Saved with the generator, and no part of its training."""
    as_released: bool = False
    """Keep the style encoder out of the optimizer, as the paper's released code does by mistake."""

    @model_validator(mode="before")
    @classmethod
    def fill_from_preset(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        preset = value.get("preset", "improved")
        if not isinstance(preset, str) or preset not in PRESETS:
            raise ValueError(f"preset {preset!r} is not one of {', '.join(PRESETS)}")
        return merge(PRESETS[preset], value)

    @model_validator(mode="after")
    def guidance_was_learned(self) -> Self:
        if self.style.sampler != "none" and self.sampling.guidance_scale > 1 and not self.style.dropout:
            raise ValueError(
                "sampling.guidance_scale needs style.dropout above 0, or training never shows what no style looks like"
            )
        sees_null_layout = self.data == "semi_supervised" or self.layout_dropout > 0
        if self.sampling.layout_guidance_scale > 1 and not sees_null_layout:
            raise ValueError(
                "sampling.layout_guidance_scale needs layout_dropout above 0, or training never shows a null layout"
            )
        if self.data == "zero_shot" and self.unannotated_layouts is not None:
            raise ValueError("unannotated_layouts are for data: semi_supervised; zero_shot sees no unannotated patch")
        if self.data == "semi_supervised" and not self.annotated_items:
            raise ValueError(
                f"annotated_fraction {self.annotated_fraction:g} of training.batch_size {self.training.batch_size} is"
                " no patch at all: no layout would be learned; raise either"
            )
        return self

    @property
    def annotated_items(self) -> int:
        """Annotated patches in a batch of semi-supervised training."""
        return round(self.training.batch_size * self.annotated_fraction)


class Affine(Section):
    """Random affine transform of layouts."""

    scale: Annotated[tuple[Positive, Positive], AfterValidator(ascending)] = (0.8, 1.2)
    """Least and largest factor."""
    rotation: Annotated[float, Field(ge=0, le=180)] = 180.0
    """Largest angle, in degrees, either way."""
    shear: Annotated[float, Field(ge=0, lt=90)] = 20.0
    """Largest angle, in degrees, either way."""
    translation: Fraction = 0.1
    """Largest shift, as a share of the side."""


class Filter(Section):
    """Images in which a segmentation network does not recognise their layout are generated again, from other noise."""

    arm: Name
    """Arm whose network decides: trained on real images, with no more annotations than the generator had."""
    iou: Fraction = 0.5
    """Mean IoU, over the layout's classes, of the layout and the network's prediction that is enough."""
    redraws: Annotated[int, Field(ge=0)] = 3
    """How often an image is generated again at most; of one that is never enough, the best attempt is kept."""


class Plan(Section):
    """What is generated: how many images, from which layouts and styles."""

    images: Count = 1000
    """Images of each source."""
    shards: Count = 1
    """Jobs that share the images."""
    pairing: Literal["group", "cycle", "random"] = "group"
    """`group`: layouts meet styles of the same group, and unannotated patients take turns; `cycle`: they take turns,
    and layouts are of any group; `random`: patients are sampled at random too, as the paper's code does."""
    affine: Affine = Affine()
    """Random affine transform of each layout."""
    style_images: Count = 4
    """Size of the style sets that images are generated from."""

    @model_validator(mode="after")
    def no_empty_shard(self) -> Self:
        if self.shards > self.images:
            raise ValueError(f"{self.images} images cannot be split into {self.shards} shards; set shards to fewer")
        return self


class Synthesis(Plan):
    filter: Filter | None = None
    """Images whose layout a network does not recover are generated again; null: none is."""


def latent_factor(first_stage: FirstStage) -> int | None:
    """Pixels of the image along each side of one latent pixel; None where only the loaded model knows."""
    match first_stage:
        case NoFirstStage():
            return first_stage.unshuffle
        case TrainedFirstStage():
            return 2 ** (len(first_stage.channels) - 1)
        case _:
            return None


def merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`base` with the values of `over`, section by section."""
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if both else value
    return merged
