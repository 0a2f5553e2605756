"""The whole study, and how a file becomes one."""

import graphlib
import itertools
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import Field, ValidationError, model_validator

from stedm.config.base import IGNORE_INDEX, Name, Section, Seed
from stedm.config.evaluation import Evaluation
from stedm.config.generator import FirstStage, Generator, NoFirstStage, Synthesis, latent_factor, merge
from stedm.config.messages import choices, messages
from stedm.config.segmentation import Arm, Segmentation
from stedm.config.slides import Annotations, Patches, Phantoms, Slides, Splits, TissueClass, mask_range
from stedm.config.sources import AnySource, FromGenerator, PseudoLabels, Source
from stedm.config.standard import STANDARD
from stedm.config.training import Device
from stedm.errors import UserError
from stedm.files import check_regular


class Study(Section):
    """A whole study; everything it makes lands in `results/<study>`."""

    study: Name
    """Name of the folder under `results/`."""
    seed: Seed = 0
    """Seed of all random numbers."""
    strict: bool = False
    """Stop where slides are unreadable or without tissue, and name them all, instead of going on without them."""
    names: Literal["pseudonyms", "real"] = "pseudonyms"
    """What figures and the report call patients and slides: P1, P2 …, or as the sheet does."""
    slides: Slides
    """The sample sheet, and where its files lie."""
    phantoms: Phantoms | None = None
    """Demonstration only: first render the sheet's slides. null: the slides are yours."""
    classes: Annotated[list[TissueClass], Field(min_length=2, max_length=IGNORE_INDEX)]
    """Classes of the layout, in the order of their labels 0, 1, …"""
    annotations: Annotations = Annotations()
    """How annotation files are read."""
    patches: Patches
    """Size and resolution of patches, and where they lie."""
    splits: Splits
    """Which patients are annotated, unannotated, for validation and for the test."""
    device: Device = Device()
    """How a GPU is used."""
    first_stage: FirstStage = NoFirstStage()
    """What generators work on: pixels, or the latents of an autoencoder."""
    generators: dict[Name, Generator] = {}
    """Diffusion models to train, by name; keys that are left out come from the preset."""
    sources: dict[Name, Source] = {}
    """Sources of synthetic images beside the generators, each of which is one, by name."""
    synthesis: Synthesis = Synthesis()
    """How many images are generated, and from which layouts and styles."""
    segmentation: Segmentation
    """The segmentation network, a U-Net of segmentation_models_pytorch, and its training."""
    arms: Annotated[dict[Name, Arm], Field(min_length=1)]
    """What is compared; a file without any gets the standard arms, with their generator and sources."""
    evaluation: Evaluation = Evaluation()
    """How networks and generated images are evaluated, and arms compared."""

    @model_validator(mode="before")
    @classmethod
    def standard_arms(cls, value: Any) -> Any:
        return merge(STANDARD, value) if isinstance(value, dict) and "arms" not in value else value

    @model_validator(mode="after")
    def references(self) -> Self:
        problems = self.source_problems()
        problems += [
            f"arms.{name}.synthetic_images: {arm.synthetic_images} of {self.synthesis.images} synthetic images"
            " (synthesis.images) cannot be had; generate more, or lower it"
            for name, arm in self.arms.items()
            if (arm.synthetic_images or 0) > self.synthesis.images
        ]
        for key in ("reference_arm", "evaluator_arm"):
            arm_name = getattr(self.evaluation, key)
            if arm_name is not None and arm_name not in self.arms:
                problems.append(f"evaluation.{key}: there is no arm {arm_name!r}; {choices(arm_name, self.arms)}")
        evaluator = self.arms.get(self.evaluation.evaluator_arm or "")
        if evaluator is not None and evaluator.sources:
            problems.append(
                f"evaluation.evaluator_arm: the arm {self.evaluation.evaluator_arm!r} has sources and would evaluate"
                " images like those that it learned from; name an arm of real images only"
            )
        problems += self.filter_problems()
        names = [item.name for item in self.classes]
        problems += [f"classes: the name {name!r} appears twice" for name in set(names) if names.count(name) > 1]
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

    def source_problems(self) -> list[str]:
        """Names that do not fit, and networks that would know too much, or need their own labels."""
        problems = [
            f"sources.{name}: there is a generator of that name, which is a source already; choose another name"
            for name in self.sources
            if name in self.generators
        ]
        problems += [
            f"arms.{name}.sources: there is no source {source!r}; {choices(source, self.all_sources)}"
            for name, arm in self.arms.items()
            for source in arm.sources
            if source not in self.all_sources
        ]
        for name, source in self.pseudo_labels.items():
            arm = self.arms.get(source.arm)
            if arm is None:
                problems.append(f"sources.{name}.arm: there is no arm {source.arm!r}; {choices(source.arm, self.arms)}")
            elif arm.annotations == "all":
                problems.append(
                    f"sources.{name}.arm: the arm {source.arm!r} learns from annotations that the other arms do not"
                    " have; name an arm with annotations: annotated"
                )
            if source.arm == self.evaluation.evaluator_arm:
                problems.append(
                    f"evaluation.evaluator_arm: the network of {source.arm!r} has labelled the patches of the source"
                    f" {name!r} and cannot evaluate them; name another arm"
                )
            if isinstance(source.confidence, dict) and set(source.confidence) != set(self.class_names):
                problems.append(
                    f"sources.{name}.confidence: give one number, or one for each class: {', '.join(self.class_names)}"
                )
        return problems + self.cycles()

    def cycles(self) -> list[str]:
        """Pseudo-labels that need a network that learns from them."""
        needs = {f"source {name}": [f"arm {source.arm}"] for name, source in self.pseudo_labels.items()}
        needs |= {f"arm {name}": [f"source {source}" for source in arm.sources] for name, arm in self.arms.items()}
        try:
            graphlib.TopologicalSorter(needs).prepare()
        except graphlib.CycleError as error:
            return [f"sources: each needs the one before it: {' → '.join(error.args[1])}; label with another arm"]
        return []

    def filter_problems(self) -> list[str]:
        """A filter must know no more than the arms that its images are for, and another network must evaluate them."""
        if self.synthesis.filter is None:
            return []
        name = self.synthesis.filter.arm
        arm = self.arms.get(name)
        if arm is None:
            return [f"synthesis.filter.arm: there is no arm {name!r}; {choices(name, self.arms)}"]
        problems = []
        if arm.sources or arm.annotations == "all":
            problems.append(
                f"synthesis.filter.arm: the arm {name!r} learns from synthetic images or from annotations that the"
                " other arms do not have; name an arm of real images with annotations: annotated"
            )
        if name == self.evaluation.evaluator_arm:
            problems.append(
                f"evaluation.evaluator_arm: the network of {name!r} has chosen the images (synthesis.filter.arm) and"
                " cannot evaluate them; name another arm"
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
    def all_sources(self) -> dict[str, AnySource]:
        """The sources of synthetic images: each generator, and those of the section `sources`."""
        generators: dict[str, AnySource] = {
            name: FromGenerator(styled=generator.style.sampler != "none", filter=self.synthesis.filter)
            for name, generator in self.generators.items()
        }
        return generators | self.sources

    @property
    def pseudo_labels(self) -> dict[str, PseudoLabels]:
        return {name: source for name, source in self.sources.items() if isinstance(source, PseudoLabels)}

    @property
    def class_names(self) -> list[str]:
        return [item.name for item in self.classes]

    def trained_arm(self, name: str) -> str:
        """The first arm that is trained on the same as this one, which differs in how the network is applied."""
        return next(other for other, arm in self.arms.items() if arm.data == self.arms[name].data)

    @property
    def scored_classes(self) -> list[str]:
        return self.evaluation.classes or self.class_names[1:]


LARGEST = 100_000
"""Values in a configuration."""


def load(path: Path) -> Study:
    """Read and validate a configuration file.

    Raises:
        UserError: the file is not YAML, or keys or values in it are wrong; all of them, one message each.
    """
    check_regular(path)
    try:
        text = path.read_text(encoding="utf-8")
        if expanded_size(yaml.compose(text, Loader=yaml.SafeLoader), {}) > LARGEST:
            raise UserError(f"{path}: has more than {LARGEST:,} values, counting each alias as what it stands for")
        data = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read as YAML: {error}") from error
    if not isinstance(data, dict):
        raise UserError(f"{path}: is not a configuration; it must hold keys such as `study:` and `slides:`")
    return validate(data, str(path))


def expanded_size(node: yaml.Node | None, known: dict[int, int]) -> int:
    """How many values a YAML document has when its aliases are written out; those that have been counted are known."""
    if not isinstance(node, yaml.CollectionNode):
        return 1
    if id(node) not in known:
        known[id(node)] = LARGEST + 1  # if it holds itself
        parts = [part for item in node.value for part in (item if isinstance(item, tuple) else [item])]
        known[id(node)] = 1 + sum(expanded_size(part, known) for part in parts)
    return known[id(node)]


def validate(data: dict[str, Any], source: str) -> Study:
    """Validate configuration values, naming `source` in the messages.

    Raises:
        UserError: one message for each wrong key or value.
    """
    try:
        return Study.model_validate(data)
    except ValidationError as error:
        raise UserError([f"{source}, {line}" for line in messages(error, Study)]) from None
