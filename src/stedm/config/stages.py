"""The options of each stage: the fields of a class are what reruns its stage when they change.

The rules hand `PatchesOptions.of(study)` to the command as JSON, the command parses it, the function takes it. A field
is the study's value of that name, narrowed to the keys that the field's own type has; what depends on which generator,
source, split or arm a job is for comes from `chosen`.
"""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError

from stedm.config.base import CHANGES_NO_RESULT, Name, Section, Seed
from stedm.config.evaluation import Comparison, ImageEvaluation, QualitySummary, ScoredClasses, Windows
from stedm.config.generator import (
    Filter,
    FirstStage,
    Generator,
    Plan,
    PredictedLayouts,
    PretrainedFirstStage,
    StyleEncoder,
    TrainedFirstStage,
)
from stedm.config.messages import messages
from stedm.config.segmentation import Application, Arm, ArmData, Network
from stedm.config.slides import Annotations, Patches, Phantoms, Roles, TissueClass
from stedm.config.sources import AnySource, FromGenerator, PseudoLabels, Repaint
from stedm.config.study import Study
from stedm.config.training import Device, Tracker, Training
from stedm.errors import UserError


class StageOptions(Section):
    """What a stage needs to know of the study."""

    @classmethod
    def of(cls, study: Study, **names: str) -> Self:
        """The options of one job.

        Args:
            study: the study.
            names: of the job's generator, source, split, arm, seed, slide or shard; those that the stage has no use for
                may be given too.
        """
        chosen = cls.chosen(study, names)
        values = {name: chosen[name] if name in chosen else getattr(study, name) for name in cls.model_fields}
        return cls.model_validate_json(cls(**values).model_dump_json())  # each field with the keys of its own type

    @classmethod
    def chosen(cls, study: Study, names: Mapping[str, str]) -> dict[str, Any]:
        """The fields that are not simply the study's value of that name."""
        return {}

    @classmethod
    def parse(cls, text: str) -> Self:
        """The options from JSON.

        Raises:
            UserError: one message for each wrong key or value.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise UserError([f"--options, {line}" for line in messages(error, cls)]) from None


class PhantomOptions(StageOptions):
    phantoms: Phantoms


class PatchesOptions(StageOptions):
    classes: list[TissueClass]
    annotations: Annotations
    patches: Patches

    @property
    def class_names(self) -> list[str]:
        return [item.name for item in self.classes]


class CheckOptions(PatchesOptions):
    strict: bool
    random_splits: bool = True
    """Patients get their roles by chance, not by the sheet."""
    style_images: int = 0
    """Patches of a slide that the largest style set has; 0 where no style is read."""

    @classmethod
    def chosen(cls, study: Study, names: Mapping[str, str]) -> dict[str, Any]:
        styles = [item.style for item in study.generators.values() if item.style.sampler == "multi_patch"]
        sizes = [style.images for style in styles] + [study.synthesis.style_images] * bool(styles)
        return {"random_splits": study.splits.source == "random", "style_images": max(sizes, default=0)}


class SplitOptions(StageOptions):
    splits: Roles
    annotated_patients: int
    repeat: int
    strict: bool
    scored_classes: list[Name]
    seed: Seed

    @classmethod
    def chosen(cls, study: Study, names: Mapping[str, str]) -> dict[str, Any]:
        return study.splits.all[names["split"]]._asdict()


class TrainingOptions(StageOptions):
    """What every training needs to know."""

    device: Device
    seed: Seed
    trackers: Annotated[list[Tracker], CHANGES_NO_RESULT, Field(exclude_if=lambda value: not value)] = []
    """Left out where there are none, so that studies made before need no training again."""

    @property
    @abstractmethod
    def name(self) -> str:
        """What its history calls it."""

    @property
    @abstractmethod
    def training(self) -> Training:
        """Length, optimizer, checkpoints."""


class FirstStageOptions(TrainingOptions):
    first_stage: TrainedFirstStage
    canonical: bool

    @property
    def name(self) -> str:
        return "first stage"

    @property
    def training(self) -> Training:
        return self.first_stage.training


class PretrainedFirstStageOptions(StageOptions):
    first_stage: PretrainedFirstStage
    canonical: bool


class LatentsOptions(StageOptions):
    canonical: bool
    device: Device


class GeneratorOptions(TrainingOptions):
    generator: Generator
    generator_name: Annotated[Name, CHANGES_NO_RESULT]
    first_stage: FirstStage
    class_names: list[Name]

    @property
    def name(self) -> str:
        return self.generator_name

    @property
    def training(self) -> Training:
        return self.generator.training

    @classmethod
    def chosen(cls, study: Study, names: Mapping[str, str]) -> dict[str, Any]:
        return {"generator": study.generators[names["generator"]], "generator_name": names["generator"]}


class StyleBankOptions(StageOptions):
    generator_name: Annotated[Name, CHANGES_NO_RESULT]
    encoder: StyleEncoder
    canonical: bool
    device: Device = Device()

    @classmethod
    def chosen(cls, study: Study, names: Mapping[str, str]) -> dict[str, Any]:
        style = study.generators[names["generator"]].style
        return {"generator_name": names["generator"], "encoder": style.encoder, "canonical": style.canonical}


class PlanOptions(StageOptions):
    synthesis: Plan
    kind: Literal["generator", "recolour", "pseudo_labels", "repaint"]
    """Of the source."""
    source_name: Name
    split_name: str
    seed: Seed

    @classmethod
    def chosen(cls, study: Study, names: Mapping[str, str]) -> dict[str, Any]:
        name = names["source"]
        return {"kind": study.all_sources[name].kind, "source_name": name, "split_name": names["split"]}


class ShardOptions(StageOptions):
    source: AnySource
    source_name: Name
    class_names: list[Name]
    device: Device = Device()

    @classmethod
    def chosen(cls, study: Study, names: Mapping[str, str]) -> dict[str, Any]:
        source = study.all_sources[names["source"]]
        match source:
            case PseudoLabels(arm=arm) | Repaint(arm=arm):
                source = source.model_copy(update={"arm": study.trained_arm(arm)})
            case FromGenerator(filter=Filter(arm=arm) as filter):
                trained = filter.model_copy(update={"arm": study.trained_arm(arm)})
                source = source.model_copy(update={"filter": trained})
        return {"source": source, "source_name": names["source"]}

    @property
    def network_arm(self) -> str | None:
        """The arm whose network labels or filters; None: there is none."""
        match self.source:
            case PseudoLabels(arm=arm) | Repaint(arm=arm) | FromGenerator(filter=Filter(arm=arm)):
                return arm
        return None


class PredictedLayoutsOptions(StageOptions):
    layouts: PredictedLayouts
    device: Device = Device()

    @classmethod
    def chosen(cls, study: Study, names: Mapping[str, str]) -> dict[str, Any]:
        layouts = study.generators[names["generator"]].unannotated_layouts
        return {"layouts": layouts and layouts.model_copy(update={"arm": study.trained_arm(layouts.arm)})}


class GridOptions(ShardOptions):
    """A grid shows what the generator makes of each pair, and leaves none out."""

    source: FromGenerator

    @classmethod
    def chosen(cls, study: Study, names: Mapping[str, str]) -> dict[str, Any]:
        chosen = super().chosen(study, names)
        return chosen | {"source": chosen["source"].model_copy(update={"filter": None})}


class SegmentationOptions(TrainingOptions):
    segmentation: Network
    arm: ArmData
    arm_name: Annotated[Name, CHANGES_NO_RESULT]
    class_names: list[Name]

    @property
    def name(self) -> str:
        return self.arm_name

    @property
    def training(self) -> Training:
        return self.segmentation.training

    @classmethod
    def chosen(cls, study: Study, names: Mapping[str, str]) -> dict[str, Any]:
        return {"arm": study.arms[names["arm"]], "arm_name": names["arm"], "seed": int(names["seed"])}


class Run(Section):
    """Which network, or source, a table's rows are about: their first columns."""

    study: Name
    split: str
    annotated_patients: int
    repeat: int


class NetworkRun(Run):
    arm: Name
    seed: Seed


class SourceRun(Run):
    source: Name


def columns_of(study: Study, split: str) -> dict[str, Any]:
    """The fields of `Run`."""
    return {"study": study.study, "split": split, **study.splits.all[split]._asdict()}


class ScoreOptions(PatchesOptions):
    windows: Windows
    application: Application
    trained_arm: Name
    """The arm whose network this arm applies."""
    run: NetworkRun
    device: Device = Device()

    @classmethod
    def chosen(cls, study: Study, names: Mapping[str, str]) -> dict[str, Any]:
        arm = names["arm"]
        return {
            "windows": study.evaluation,
            "application": study.arms[arm].application,
            "trained_arm": study.trained_arm(arm),
            "run": NetworkRun(**columns_of(study, names["split"]), arm=arm, seed=int(names["seed"])),
        }


class ImageEvaluationOptions(StageOptions):
    evaluation: ImageEvaluation
    run: SourceRun
    evaluator_arm: Name | None = None
    structure_arm: Name | None = None
    """Arms whose networks recognise layouts and describe structure; None: any."""
    seed: Seed
    device: Device = Device()

    @classmethod
    def chosen(cls, study: Study, names: Mapping[str, str]) -> dict[str, Any]:
        evaluator = study.evaluation.evaluator_arm
        return {
            "run": SourceRun(**columns_of(study, names["split"]), source=names["source"]),
            "evaluator_arm": evaluator and study.trained_arm(evaluator),
            "structure_arm": study.trained_arm(study.evaluation.reference_arm),
        }


class ComparisonOptions(StageOptions):
    arms: dict[Name, Arm]
    evaluation: Comparison
    scored_classes: list[Name]
    seed: Seed


class QualitySummaryOptions(StageOptions):
    evaluation: QualitySummary
    seed: Seed


class ClassesOptions(StageOptions):
    """Names and colours, for figures."""

    classes: list[TissueClass]


class SourcesOptions(ClassesOptions):
    """Sources of the same plan, in the order in which a figure shows them."""

    sources: list[Name]

    @classmethod
    def chosen(cls, study: Study, names: Mapping[str, str]) -> dict[str, Any]:
        return {"sources": study.planned_sources}


class MapsOptions(PatchesOptions):
    arms: dict[Name, Arm]
    evaluation: ScoredClasses


class ReportOptions(StageOptions):
    """What a study asked, for its report."""

    study: Name
    arms: dict[Name, Arm]
    evaluation: Comparison
    scored_classes: list[Name]


class HistoriesOptions(StageOptions):
    """Names of networks as figures show them."""

    arms: dict[Name, Arm]
    reference_arm: Name

    @classmethod
    def chosen(cls, study: Study, names: Mapping[str, str]) -> dict[str, Any]:
        return {"reference_arm": study.evaluation.reference_arm}
