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
from stedm.config.sources import AnySource, FromGenerator, Generated, PseudoLabels, Repaint, Source
from stedm.config.standard import STANDARD
from stedm.config.training import Device, Tracker
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
    trackers: list[Tracker] = []
    """Where trainings report their loss while they run, as far as the packages are installed."""
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
        problems += self.claim_problems() + self.filter_problems()
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
        known = [*self.generators, *self.sources]
        problems += [
            f"arms.{name}.sources: there is no source {source!r}; {choices(source, known)}"
            for name, arm in self.arms.items()
            for source in arm.sources
            if source not in known
        ]
        for name, source in self.sources.items():
            if not isinstance(source, Generated | Repaint):
                continue
            generator = self.generators.get(source.generator)
            if generator is None:
                problems.append(
                    f"sources.{name}.generator: there is no generator {source.generator!r};"
                    f" {choices(source.generator, self.generators)}"
                )
            elif isinstance(source, Repaint) and generator.style.sampler == "none":
                problems.append(
                    f"sources.{name}.generator: {source.generator!r} has no style, and would repaint patches in"
                    " another; name a generator with style"
                )
        for name, generator in self.generators.items():
            if generator.unannotated_layouts is not None:
                key = f"generators.{name}.unannotated_layouts.arm"
                problems += self.labeller_problems(key, generator.unannotated_layouts.arm)
        for name, source in self.network_labelled.items():
            problems += self.labeller_problems(f"sources.{name}.arm", source.arm)
            if self.evaluates(source.arm):
                problems.append(
                    f"evaluation.evaluator_arm: the network of {source.arm!r} has labelled the patches of the source"
                    f" {name!r} and cannot evaluate them; name another arm"
                )
            if (
                isinstance(source, PseudoLabels)
                and isinstance(source.confidence, dict)
                and set(source.confidence) != set(self.class_names)
            ):
                problems.append(
                    f"sources.{name}.confidence: give one number, or one for each class: {', '.join(self.class_names)}"
                )
        return problems + self.cycles()

    def labeller_problems(self, key: str, name: str) -> list[str]:
        """An arm whose network labels patches must exist, and know no more than the arms that learn from them."""
        arm = self.arms.get(name)
        if arm is None:
            return [f"{key}: there is no arm {name!r}; {choices(name, self.arms)}"]
        if arm.annotations == "all":
            return [
                f"{key}: the arm {name!r} learns from annotations that the other arms do not have; name an arm with"
                " annotations: annotated"
            ]
        return []

    def cycles(self) -> list[str]:
        """Networks that need labels or images that need these networks."""
        needs = {f"source {name}": [f"arm {source.arm}"] for name, source in self.network_labelled.items()}
        for name, source in self.sources.items():
            if isinstance(source, Generated | Repaint):
                needs.setdefault(f"source {name}", []).append(f"source {source.generator}")
        needs |= {
            f"source {name}": [f"arm {generator.unannotated_layouts.arm}"]
            for name, generator in self.generators.items()
            if generator.unannotated_layouts is not None
        }
        needs |= {f"arm {name}": [f"source {source}" for source in arm.sources] for name, arm in self.arms.items()}
        try:
            graphlib.TopologicalSorter(needs).prepare()
        except graphlib.CycleError as error:
            return [f"sources: each needs the one before it: {' → '.join(error.args[1])}; label with another arm"]
        return []

    def claim_problems(self) -> list[str]:
        """A claim is about what arms make of the same annotations."""
        claim = self.evaluation.claim or []
        problems = [
            f"evaluation.claim: there is no arm {name!r}; {choices(name, self.arms)}"
            for name in claim
            if name not in self.arms
        ]
        if claim[:1] == [self.evaluation.reference_arm]:
            problems.append(f"evaluation.claim: the reference arm comes second: [{claim[1]}, {claim[0]}]")
        return problems + [
            f"evaluation.claim: the arm {name!r} learns from annotations that the other arms do not have; name arms"
            " with annotations: annotated"
            for name in claim
            if name in self.arms and self.arms[name].annotations == "all"
        ]

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
        if self.evaluates(name):
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
        if self.first_stage.kind != "none" and len({one.style.canonical for one in self.generators.values()}) > 1:
            problems.append(
                f"generators: all learn from the latents of one first stage (kind {self.first_stage.kind}); set"
                " style.canonical to the same in each, or first_stage.kind to none"
            )
        if self.patches.size % 2**self.segmentation.encoder_depth:
            problems.append(
                f"segmentation.encoder_depth: {self.segmentation.encoder_depth} needs patches.size to be a multiple of"
                f" {2**self.segmentation.encoder_depth}; it is {self.patches.size}"
            )
        return problems

    @property
    def all_sources(self) -> dict[str, AnySource]:
        """The sources of synthetic images: each generator, and those of the section `sources`."""
        own = {
            name: Generated(kind="generator", generator=name, strength=generator.sampling.strength)
            for name, generator in self.generators.items()
        }
        return {
            name: self.from_generator(source) if isinstance(source, Generated) else source
            for name, source in (own | self.sources).items()
        }

    def from_generator(self, source: Generated) -> FromGenerator:
        styled = self.generators[source.generator].style.sampler != "none"
        return FromGenerator(**source.model_dump(), styled=styled, filter=self.synthesis.filter)

    @property
    def planned_sources(self) -> list[str]:
        """The sources that make images of layouts and styles, all of the same plan: closed form first."""
        planned = [name for name in self.all_sources if name not in self.network_labelled]
        return sorted(planned, key=lambda name: isinstance(self.all_sources[name], FromGenerator))

    @property
    def network_labelled(self) -> dict[str, PseudoLabels | Repaint]:
        """The sources of unannotated patches that a network labels."""
        return {name: one for name, one in self.sources.items() if isinstance(one, PseudoLabels | Repaint)}

    @property
    def canonical(self) -> bool:
        """Are latents those of canonical images?"""
        return any(generator.style.canonical for generator in self.generators.values())

    def evaluates(self, name: str) -> bool:
        """Is the network of this arm the one that evaluates synthetic images, if under another arm's name?"""
        evaluator = self.evaluation.evaluator_arm
        known = evaluator in self.arms and name in self.arms
        return known and self.trained_arm(name) == self.trained_arm(str(evaluator))

    @property
    def class_names(self) -> list[str]:
        return [item.name for item in self.classes]

    def trained_arm(self, name: str) -> str:
        """The first arm that is trained on the same as this one, which differs in how the network is applied."""
        return next(other for other, arm in self.arms.items() if arm.data == self.arms[name].data)

    @property
    def scored_classes(self) -> list[str]:
        return self.evaluation.classes or self.class_names[1:]


LARGEST_FILE = 2**20
"""Bytes of a configuration."""
LARGEST = 100_000
"""Values in a configuration."""


def load(path: Path) -> Study:
    """Read and validate a configuration file.

    Raises:
        UserError: the file is not YAML, or keys or values in it are wrong; all of them, one message each.
    """
    return validate(read(path), str(path))


def read(path: Path) -> dict[str, Any]:
    """The values of a configuration file.

    Raises:
        UserError: the file is not YAML, or too large.
    """
    check_regular(path)
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise UserError(f"{path}: has more than {LARGEST_FILE // 2**20} MiB; is it a configuration?")
        text = path.read_text(encoding="utf-8")
        # before it is read, as merged keys are written out then
        check_size(yaml.compose(text, Loader=yaml.SafeLoader), str(path))
        data = yaml.safe_load(text)
    except UserError:
        raise
    except FileNotFoundError as error:
        raise UserError(f"{path}: there is no such file; give the path of the study's file") from error
    except yaml.MarkedYAMLError as error:
        raise UserError(f"{path}{no_yaml(error)}") from error
    except Exception as error:  # PyYAML raises half a dozen types, such as for dates that are none
        raise UserError(f"{path}: cannot be read as YAML: {error}") from error
    if not isinstance(data, dict):
        raise UserError(f"{path}: is not a configuration; it must hold keys such as `study:` and `slides:`")
    return data


def no_yaml(error: yaml.MarkedYAMLError) -> str:
    """The line from which on a file is no YAML, and what is usually the reason."""
    where = "" if error.problem_mark is None else f", line {error.problem_mark.line + 1}"
    if "\\t" in str(error.problem):
        return f"{where}: begins with a tab; YAML is indented with blanks"
    return (
        f"{where}: cannot be read as YAML: {error.problem}; is a blank missing behind a colon, or a bracket or a quote"
        " not closed, on this line or above it?"
    )


def check_size(value: Any, source: str) -> None:
    """Refuse a configuration that grows when its aliases are written out, as its validation does.

    Raises:
        UserError: it has too many values, or too deep ones.
    """
    try:
        if expanded_size(value, {}) <= LARGEST:
            return
    except RecursionError:
        raise UserError(f"{source}: its values are nested too deep") from None
    raise UserError(f"{source}: has more than {LARGEST:,} values, counting each alias as what it stands for")


def expanded_size(value: Any, known: dict[int, int]) -> int:
    """How many values a YAML document has, or what was read from one, when its aliases are written out; those that have
    been counted are known."""
    match value:
        case yaml.CollectionNode(value=items):
            parts = [part for item in items for part in (item if isinstance(item, tuple) else [item])]
        case dict():
            parts = [*value, *value.values()]
        case list():
            parts = value
        case _:
            return 1
    if id(value) not in known:
        known[id(value)] = LARGEST + 1  # if it holds itself
        known[id(value)] = 1 + sum(expanded_size(part, known) for part in parts)
    return known[id(value)]


def validate(data: dict[str, Any], source: str) -> Study:
    """Validate configuration values, naming `source` in the messages.

    Raises:
        UserError: one message for each wrong key or value.
    """
    check_size(data, source)  # Snakemake has read it, and knows no limit
    try:
        return Study.model_validate(data)
    except ValidationError as error:
        try:
            raise UserError([f"{source}, {line}" for line in messages(error, Study)]) from None
        except ValueError:  # Python prints no number of more than 4,300 digits
            raise UserError(f"{source}: has a number of thousands of digits; correct it") from None
