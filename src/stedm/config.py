"""The typed configuration of a study: every key, its default, its range, and what is wrong with a value.

`load` reads a YAML file; `Study` holds one section for each stage. A rule of the workflow hands the command that it
calls only the section that the command uses, as JSON.
"""

import difflib
import itertools
import json
import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from stedm.errors import UserError
from stedm.presets import PRESETS

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")]

IGNORE_INDEX = 255
"""Label of pixels that nobody annotated: neither trained on nor scored."""


def once(values: list[int]) -> list[int]:
    """The values, each of which is there once."""
    if twice := sorted({value for value in values if values.count(value) > 1}):
        raise ValueError(f"{', '.join(map(str, twice))} is there twice; give each number once")
    return values


def expanded(value: str) -> str:
    """A path with its `${VARIABLES}` replaced."""
    value = os.path.expandvars(value)
    if missing := re.findall(r"\$\{?(\w+)", value):
        raise ValueError(f"the environment variable {missing[0]} is not set; set it, or write the folder itself")
    return value


PathName = Annotated[str, AfterValidator(expanded)]


class Section(BaseModel):
    """A part of the configuration; unknown keys are mistakes."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Demo(Section):
    """Phantom slides, drawn before anything else where the study has this section."""

    size: Annotated[int, Field(ge=256)] = 1536
    mpp: Positive = 0.5
    seed: Seed = 0


class Slides(Section):
    sheet: PathName
    root: PathName | None = None
    """Folder that relative paths of the sheet start from (default: the sheet's own); `${VARIABLES}` are expanded."""


class TissueClass(Section):
    """One class of the layout; its place in the list is its label."""

    name: Name
    color: Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$")]
    annotations: list[str] = []
    """Names of this class in annotation files (QuPath classifications); by default its own name. Shapes that have no
    class are called `Unclassified`."""
    mask_values: list[str] = []
    """Values of this class in mask images: numbers, or ranges such as "1-65535"."""

    @property
    def rgb(self) -> tuple[int, ...]:
        """Red, green and blue in 0 to 255."""
        return tuple(bytes.fromhex(self.color[1:]))

    @field_validator("mask_values", mode="before")
    @classmethod
    def text(cls, value: Any) -> Any:
        return [str(item) for item in value] if isinstance(value, list) else value

    @field_validator("mask_values")
    @classmethod
    def ranges(cls, value: list[str]) -> list[str]:
        for item in value:
            if not re.fullmatch(r"\d+(-\d+)?", item):
                raise ValueError(f"{item!r} is neither a number nor a range such as 1-65535")
        return value


def mask_range(text: str) -> tuple[int, int]:
    """First and last of the values that an item of `mask_values` stands for."""
    low, _, high = text.partition("-")
    return int(low), int(high or low)


class Annotations(Section):
    regions: list[str] = ["Region*"]
    """Annotation classes that say what area is annotated. Without any in a file, its own polygons are the area."""
    fill: Name | None = None
    """Class of annotated area that no polygon covers (null: it stays unannotated)."""
    ignore: list[str] = ["Ignore*"]
    """Annotation classes that are neither trained on nor scored."""
    whole_slide: bool = False
    """All of a slide is annotated where its file has no region, and `fill` is what no polygon covers."""
    without_area: Literal["ignore", "refuse"] = "ignore"
    """Points and lines: passed over with a count, or an error."""

    @model_validator(mode="after")
    def whole_slide_is_filled(self) -> Self:
        if self.whole_slide and self.fill is None:
            raise ValueError("whole_slide needs fill: the class of what no polygon covers")
        return self


class Tissue(Section):
    """Tissue mask: saturation above a threshold at low power, then holes and specks cleaned."""

    mpp: Positive = 8.0
    saturation: Literal["otsu"] | Fraction = "otsu"
    min_saturation: Fraction = 0.03
    """Floor under Otsu's threshold, so that a slide of bare glass has no tissue."""
    max_saturation: Fraction = 0.1
    """Ceiling over it, so that pale tissue is found, and an image without glass is not parted into nuclei and rest."""
    min_area: Positive = 20_000.0
    """Smaller pieces are specks, in µm²."""
    min_hole: Positive = 20_000.0
    """Smaller holes are filled, in µm²."""
    masks: PathName | None = None
    """Folder of masks made elsewhere, one a slide (`<slide>.png`, `.tif`, `.geojson`), taken as they are: of the keys
    above only `mpp` counts."""


class Patches(Section):
    size: Annotated[int, Field(ge=16)] = 64
    mpp: Positive | None = None
    level: Annotated[int, Field(ge=0)] | None = None
    """Read this level as it is, instead of a resolution: for images without a scale."""
    overlap: Annotated[int, Field(ge=0)] = 0
    min_tissue: Fraction = 0.5
    coords: PathName | None = None
    """Folder of coordinates that CLAM or TRIDENT wrote, one file a slide (`<slide>.h5`, `<slide>_patches.h5`): all of
    their patches are cut, instead of those on a grid of ours."""
    storage: Literal["raw", "jpeg"] = "raw"
    """`raw`: pixels as they are, read 20 times faster; `jpeg`: an eighth of the space."""
    jpeg_quality: Annotated[int, Field(ge=1, le=100)] = 90
    """Colour has half the resolution (4:2:0) below 95."""
    tissue: Tissue | None = Tissue()
    """null: the whole image is tissue."""

    @model_validator(mode="after")
    def one_resolution(self) -> Self:
        if (self.mpp is None) == (self.level is None):
            raise ValueError("give either mpp (micrometres per pixel) or level, not both and not neither")
        if self.overlap >= self.size:
            raise ValueError(f"overlap ({self.overlap} px) must be smaller than size ({self.size} px)")
        if self.coords is not None and self.overlap:
            raise ValueError("overlap is of our grid; leave it out, coords says where patches lie")
        return self


class Splits(Section):
    source: Literal["sheet", "random"] = "random"
    """`sheet`: the roles are in the sheet's column `split`; `random`: drawn by patient, stratified by group."""
    repeats: Count = 1
    annotated_patients: Annotated[list[Count], Field(min_length=1), AfterValidator(once)]
    """How many patients count as annotated; several numbers are swept."""
    test_patients: Count | None = None
    validation_patients: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def test_set(self) -> Self:
        if self.source == "random" and self.test_patients is None:
            raise ValueError("random splits need test_patients: how many patients are kept for the test")
        return self


class Training(Section):
    """What every training has: length, optimizer, checkpoints."""

    steps: Count
    batch_size: Count = 16
    learning_rate: Positive = 1e-4
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    decay: Literal["constant", "linear", "cosine"] = "constant"
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    gradient_clip: Positive = 1.0
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.9999
    """Decay of the exponential moving average of the weights, which is what is kept; 0 keeps the last weights."""
    checkpoint_minutes: Positive = 10.0
    workers: Annotated[int, Field(ge=0)] = 0
    """Processes that load data; 0 loads in the training process."""


class Device(Section):
    """Where CUDA is there it is used; these two say how. Both are off on the CPU, where they gain nothing."""

    precision: Literal["fp32", "bf16"] = "bf16"
    compile: bool = False


class NoFirstStage(Section):
    kind: Literal["none"] = "none"
    unshuffle: Literal[1, 2, 4, 8] = 1
    """Fold blocks of n×n pixels into channels, as their cosine coefficients."""


class TrainedFirstStage(Section):
    kind: Literal["trained"]
    channels: Annotated[list[Count], Field(min_length=1)] = [32, 64, 64]
    latent_channels: Count = 4
    kl_weight: Annotated[float, Field(ge=0)] = 1e-6
    training: Training = Training(steps=2000, batch_size=16, learning_rate=1e-3, warmup_steps=50, ema_decay=0.99)


class PretrainedFirstStage(Section):
    kind: Literal["pretrained"]
    path: str
    """Folder or hub id of a diffusers autoencoder (`AutoencoderKL`, `VQModel`)."""
    subfolder: str | None = None


FirstStage = Annotated[NoFirstStage | TrainedFirstStage | PretrainedFirstStage, Field(discriminator="kind")]


class StyleEncoder(Section):
    name: str = "conv"
    """`conv` (small, ours), `swin_v2_t` (torchvision, random weights), a timm model, or its folder."""
    trainable: bool = True
    """Trained with the generator (the paper); false: frozen, and the generator learns from cached embeddings."""
    dim: Count = 128
    pretrained: bool = False
    """Load the weights that timm names for this model (needs the hub, or a local cache)."""

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
    images: Count = 4
    """Size of a style set in training."""
    encoder: StyleEncoder = StyleEncoder()
    aggregator: Literal["mean", "max", "linear", "set_transformer"] = "mean"
    tokens: Count = 4
    injection: Literal["everywhere", "middle"] = "everywhere"
    """`everywhere`: tokens to cross-attention and a vector into the time embedding; `middle`: one block, the paper."""
    dropout: Fraction = 0.1
    null: Literal["learned", "constant_image"] = "learned"
    """What stands for no style: a learned vector, or the embedding of a grey image (the paper)."""
    exclude_overlap: bool = True
    """Never show pixels of the target in its own style set."""
    whiten: bool = False
    """Train on images freed of their style set's colours and power spectrum, and put these back after drawing."""

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
        if self.sampler == "none" and self.whiten:
            raise ValueError("whiten takes colours and spectrum from the style set, and the sampler none has none")
        return self


class UNet(Section):
    channels: Annotated[list[Count], Field(min_length=2)] = [128, 256, 512, 768]
    attention: list[bool] = [False, False, True, True]
    """Self- and cross-attention at each level."""
    blocks_per_level: Count = 2
    head_dim: Count = 32
    layout: Literal["unshuffle", "halved"] = "unshuffle"
    """`unshuffle`: every layout pixel, folded into channels; `halved`: bilinear halvings and a 1×1 conv, the paper."""

    @model_validator(mode="after")
    def same_length(self) -> Self:
        if len(self.attention) != len(self.channels):
            raise ValueError(f"attention has {len(self.attention)} values for {len(self.channels)} levels of channels")
        return self


class Objective(Section):
    prediction: Literal["epsilon", "v_prediction", "sample"] = "v_prediction"
    loss: Literal["l1", "l2"] = "l2"
    min_snr_gamma: Positive | None = 5.0
    """Cap of the signal-to-noise ratio in the loss weights (Hang et al. 2023); null: unweighted."""
    snr_floor: Annotated[float, Field(ge=0)] = 0.0
    """Floor under that ratio, so that the noisiest steps do not vanish from the loss."""
    timesteps: Count = 1000
    beta_schedule: Literal["linear", "scaled_linear", "squaredcos_cap_v2"] = "squaredcos_cap_v2"
    beta_start: Positive = 0.0001
    beta_end: Positive = 0.02
    zero_terminal_snr: bool = False


class Sampling(Section):
    sampler: Literal["ddim", "dpm_solver", "unipc"] = "dpm_solver"
    steps: Count = 20
    guidance_scale: Annotated[float, Field(ge=1)] = 1.5
    """Of style."""
    layout_guidance_scale: Annotated[float, Field(ge=1)] = 1.0
    guidance_interval: tuple[Fraction, Fraction] = (0.0, 1.0)
    """Guide only at times in this interval of [0, 1], 1 being pure noise (Kynkäänniemi et al. 2024)."""
    batch_size: Count = 32


class Generator(Section):
    """One trained diffusion model: style sampler, aggregator, training data, preset."""

    preset: str = "improved"
    data: Literal["zero_shot", "semi_supervised"] = "semi_supervised"
    """`zero_shot`: annotated patches only (the paper); `semi_supervised`: unannotated ones too, with a null layout."""
    annotated_fraction: Fraction = 0.5
    """Share of annotated patches in a batch of semi-supervised training."""
    layout_dropout: Fraction = 0.1
    style: Style = Style()
    unet: UNet = UNet()
    objective: Objective = Objective()
    training: Training
    sampling: Sampling = Sampling()
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


class Affine(Section):
    """Random affine transform of layouts."""

    scale: tuple[Positive, Positive] = (0.8, 1.2)
    rotation: Annotated[float, Field(ge=0, le=180)] = 180.0
    shear: Annotated[float, Field(ge=0, lt=90)] = 20.0
    translation: Fraction = 0.1


class Filter(Section):
    """Drawn images in which a segmentation network does not find their layout again are drawn anew, or left out."""

    arm: Name
    """Arm whose network judges: of real images, and of no more annotations than the generator had."""
    iou: Fraction = 0.5
    """Least mean IoU, over the layout's classes, of the layout and what the network sees."""
    redraws: Annotated[int, Field(ge=0)] = 3
    """How often an image is drawn anew, from other noise, before it is left out."""


class Synthesis(Section):
    images: Count = 1000
    shards: Count = 1
    pairing: Literal["group", "cycle", "random"] = "group"
    """`group`: layouts meet styles of the same group, and unannotated patients take turns; `cycle`: they take turns,
    and layouts are of any group; `random`: patients are drawn at random too, as the paper's code does."""
    filter: Filter | None = None
    affine: Affine = Affine()
    style_images: Count = 4
    """Size of the style sets for drawing."""

    @model_validator(mode="after")
    def no_empty_shard(self) -> Self:
        if self.shards > self.images:
            raise ValueError(f"{self.images} images cannot be drawn in {self.shards} shards; set shards to fewer")
        return self


class Loss(Section):
    cross_entropy: Annotated[float, Field(ge=0)] = 0.1
    dice: Annotated[float, Field(ge=0)] = 0.9
    crop_margin: Annotated[int, Field(ge=0)] = 0
    """Border in pixels left out of the loss."""


class Segmentation(Section):
    encoder: str = "resnet18"
    encoder_weights: str | None = None
    encoder_depth: Annotated[int, Field(ge=3, le=5)] = 5
    decoder_channels: list[Count] = [256, 128, 64, 32, 16]
    loss: Loss = Loss()
    synthetic_fraction: Fraction = 0.5
    """Share of synthetic images in each batch of the arms that have a generator."""
    training: Training
    seeds: Annotated[list[Seed], Field(min_length=1), AfterValidator(once)] = [0]

    @model_validator(mode="after")
    def decoder_fits(self) -> Self:
        if len(self.decoder_channels) != self.encoder_depth:
            raise ValueError(f"decoder_channels needs {self.encoder_depth} values (encoder_depth), one for each level")
        return self


class Arm(Section):
    """One way of training the segmentation network."""

    label: str
    generator: Name | None = None
    annotations: Literal["annotated", "all"] = "annotated"
    """`all`: the annotations of the unannotated patients too, where the sheet has them: the upper bound."""
    stain_augmentation: bool = False
    synthetic_fraction: Fraction | None = None
    """Share of synthetic images in each batch (default: the segmentation section's)."""
    synthetic_images: Count | None = None
    """Train on the first so many drawn images (default: all)."""

    @model_validator(mode="after")
    def synthetic_needs_generator(self) -> Self:
        if self.generator is None and (self.synthetic_fraction is not None or self.synthetic_images is not None):
            raise ValueError("synthetic_fraction and synthetic_images are for arms with a generator: name one")
        return self


class Evaluation(Section):
    overlap: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Overlap of neighbouring windows as a share of their size."""
    batch_size: Count = 64
    classes: list[Name] | None = None
    """Classes whose mean Dice is the score of an arm (default: all but the first)."""
    reference_arm: Name = "real"
    """Arm that the others are compared to."""
    judge_arm: Name | None = None
    """Arm whose network judges whether drawn images follow their layout (default: none is judged)."""
    judged_images: Count = 400
    features: str = "segmenter"
    """Network by whose features drawn and real images are compared: `segmenter` (the encoder of judge_arm's network;
    without one nothing is compared), `inception` (a download), a timm model, a hub id (`hf-hub:owner/name`), or its
    folder."""
    bootstrap: Count = 10_000


class Study(Section):
    """A whole study; everything it makes lands in `results/<study>`."""

    study: Name
    seed: Seed = 0
    strict: bool = False
    """Stop where slides are unreadable or without tissue, and name them all, instead of going on without them."""
    slides: Slides
    demo: Demo | None = None
    classes: Annotated[list[TissueClass], Field(min_length=2)]
    annotations: Annotations = Annotations()
    patches: Patches
    splits: Splits
    device: Device = Device()
    first_stage: FirstStage = NoFirstStage()
    generators: dict[Name, Generator] = {}
    synthesis: Synthesis = Synthesis()
    segmentation: Segmentation
    arms: Annotated[dict[Name, Arm], Field(min_length=1)]
    evaluation: Evaluation = Evaluation()

    @model_validator(mode="after")
    def references(self) -> Self:
        problems = [
            f"arms.{name}.generator: there is no generator {arm.generator!r}; {choices(arm.generator, self.generators)}"
            for name, arm in self.arms.items()
            if arm.generator is not None and arm.generator not in self.generators
        ]
        problems += [
            f"arms.{name}.synthetic_images: {arm.synthetic_images} of {self.synthesis.images} drawn images"
            " (synthesis.images) cannot be had; draw more, or lower it"
            for name, arm in self.arms.items()
            if (arm.synthetic_images or 0) > self.synthesis.images
        ]
        for key in ("reference_arm", "judge_arm"):
            arm_name = getattr(self.evaluation, key)
            if arm_name is not None and arm_name not in self.arms:
                problems.append(f"evaluation.{key}: there is no arm {arm_name!r}; {choices(arm_name, self.arms)}")
        judge = self.arms.get(self.evaluation.judge_arm or "")
        if judge is not None and judge.generator is not None:
            problems.append(
                f"evaluation.judge_arm: the arm {self.evaluation.judge_arm!r} has a generator and would judge images"
                " like those that it learned from; name an arm of real images only"
            )
        problems += self.filter_problems()
        names = [item.name for item in self.classes]
        problems += [f"classes: the name {name!r} is there twice" for name in set(names) if names.count(name) > 1]
        scored = self.evaluation.classes or []
        problems += [
            f"evaluation.classes: there is no class {name!r}; {choices(name, names)}"
            for name in scored
            if name not in names
        ]
        if self.annotations.fill is not None and self.annotations.fill not in names:
            problems.append(f"annotations.fill: there is no class {self.annotations.fill!r}")
        problems += self.claimed_twice() + self.sizes()
        if problems:
            raise ValueError("\n".join(problems))
        return self

    def filter_problems(self) -> list[str]:
        """A filter must know no more than the arms that its images are for, and be judged by another network."""
        if self.synthesis.filter is None:
            return []
        name = self.synthesis.filter.arm
        arm = self.arms.get(name)
        if arm is None:
            return [f"synthesis.filter.arm: there is no arm {name!r}; {choices(name, self.arms)}"]
        problems = []
        if arm.generator is not None or arm.annotations == "all":
            problems.append(
                f"synthesis.filter.arm: the arm {name!r} learns from drawn images or from annotations that the other"
                " arms do not have; name an arm of real images with annotations: annotated"
            )
        if name == self.evaluation.judge_arm:
            problems.append(
                f"evaluation.judge_arm: the network of {name!r} has chosen the images (synthesis.filter.arm) and cannot"
                " judge them; name another arm"
            )
        return problems

    def claimed_twice(self) -> list[str]:
        """Names in annotations and values in masks that two classes claim."""
        problems = []
        for first, second in itertools.combinations(self.classes, 2):
            for name in set(first.annotations or [first.name]) & set(second.annotations or [second.name]):
                problems.append(f"classes: the annotation {name!r} stands for {first.name} and for {second.name}")
            for one, other in itertools.product(first.mask_values, second.mask_values):
                (low, high), (lower, higher) = mask_range(one), mask_range(other)
                if low <= higher and lower <= high:
                    problems.append(
                        f"classes: the mask values {one!r} of {first.name} and {other!r} of {second.name} overlap"
                    )
        return problems

    def sizes(self) -> list[str]:
        """Sizes that do not divide: found now, not by a crash in the middle of the network."""
        problems = []
        factor = latent_factor(self.first_stage)
        if factor and self.patches.size % factor:
            problems.append(f"patches.size: {self.patches.size} is not a multiple of the first stage's factor {factor}")
        for name, generator in self.generators.items():
            needed = (factor or 1) * 2 ** (len(generator.unet.channels) - 1)
            if self.patches.size % needed:
                problems.append(
                    f"generators.{name}.unet.channels: {len(generator.unet.channels)} levels need patches.size to be a"
                    f" multiple of {needed}; it is {self.patches.size}"
                )
            if generator.style.whiten and self.first_stage.kind != "none":
                problems.append(f"generators.{name}.style.whiten works with first_stage.kind none only")
        if self.patches.size % 2**self.segmentation.encoder_depth:
            problems.append(
                f"segmentation.encoder_depth: {self.segmentation.encoder_depth} needs patches.size to be a multiple of"
                f" {2**self.segmentation.encoder_depth}; it is {self.patches.size}"
            )
        return problems

    @property
    def class_names(self) -> list[str]:
        return [item.name for item in self.classes]

    @property
    def scored_classes(self) -> list[str]:
        return self.evaluation.classes or self.class_names[1:]


def latent_factor(first_stage: NoFirstStage | TrainedFirstStage | PretrainedFirstStage) -> int | None:
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


def choices(wrong: object, names: Any) -> str:
    """Remedy for a wrong name: the nearest right one, else all of them."""
    close = difflib.get_close_matches(str(wrong), list(names), 1)
    return f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(names) or 'none'}"


def load(path: Path) -> Study:
    """Read and validate a configuration file.

    Raises:
        UserError: the file is not YAML, or keys or values in it are wrong; all of them, one message each.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path}: cannot be read as YAML: {error}") from error
    if not isinstance(data, dict):
        raise UserError(f"{path}: is not a configuration; it must hold keys such as `study:` and `slides:`")
    return validate(data, str(path))


def validate(data: dict[str, Any], source: str) -> Study:
    """Validate configuration values, naming `source` in the messages.

    Raises:
        UserError: one message for each wrong key or value.
    """
    try:
        return Study.model_validate(data)
    except ValidationError as error:
        messages = [line for item in error.errors() for line in explain(item, data)]
        raise UserError([f"{source}, {line}" for line in messages]) from None


def explain(item: Any, data: dict[str, Any]) -> list[str]:
    """What one error of pydantic means to the one who wrote the file."""
    where = [str(part) for part in item["loc"]]
    known, section = section_at(where[:-1])
    key = ".".join([*section, *where[-1:]]) or "the whole file"
    if item["type"] == "extra_forbidden":
        return [f"{key}: there is no such key; {choices(where[-1], known)}"]
    if item["type"] == "missing":
        return [f"{key}: is missing; give it a value"]
    message = item["msg"].removeprefix("Value error, ")
    if not where:
        return message.split("\n")
    return [f"{key}: {message} (it is {json.dumps(item['input'], default=str)[:80]})"]


def section_at(where: list[str]) -> tuple[list[str], list[str]]:
    """Keys that the section at `where` has, and `where` as the user wrote it, looked up in the JSON schema.

    pydantic puts the kind of a section that comes in several (`first_stage`) among the keys; the user did not.
    """
    schema: dict[str, Any] = Study.model_json_schema()
    node = schema
    written = []
    for part in where:
        kinds = node.get("discriminator", {}).get("mapping", {})
        if part in kinds:
            node = {"$ref": kinds[part]}
            continue
        written.append(part)
        node = resolve(node, schema)
        named = node.get("patternProperties", {"": None}).values()
        node = node.get("properties", {}).get(part) or next(iter(named)) or node.get("items") or node
    return sorted(resolve(node, schema).get("properties", {})), written


def resolve(node: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """Follow references and optional values of a JSON schema to the section they stand for."""
    for option in node.get("anyOf", node.get("oneOf", [])):
        if "$ref" in option:
            node = option
            break
    if "$ref" in node:
        node = schema["$defs"][node["$ref"].rsplit("/", 1)[1]]
    return node
