"""The typed configuration of a study: every key, its default, its range, and what is wrong with a value.

`load` reads a YAML file as a `Study`, which has one section for each part; `stages` has what each stage needs of it.
"""

from stedm.config.base import IGNORE_INDEX, Section
from stedm.config.evaluation import (
    Comparison,
    Evaluation,
    ImageEvaluation,
    QualitySummary,
    ScoredClasses,
    Windows,
)
from stedm.config.generator import (
    Affine,
    Filter,
    FirstStage,
    Generator,
    NoFirstStage,
    Objective,
    Plan,
    PretrainedFirstStage,
    Sampling,
    Style,
    StyleEncoder,
    Synthesis,
    TrainedFirstStage,
    UNet,
    merge,
)
from stedm.config.messages import choices, messages
from stedm.config.presets import PRESETS
from stedm.config.segmentation import Arm, ArmData, Loss, Network, Segmentation
from stedm.config.slides import (
    Annotations,
    Patches,
    Phantoms,
    Roles,
    Slides,
    Split,
    Splits,
    Tissue,
    TissueClass,
    mask_range,
)
from stedm.config.stages import (
    CheckOptions,
    ClassesOptions,
    ComparisonOptions,
    FirstStageOptions,
    GeneratorOptions,
    GeneratorRun,
    GridOptions,
    HistoriesOptions,
    ImageEvaluationOptions,
    LatentsOptions,
    MapsOptions,
    NetworkRun,
    PatchesOptions,
    PhantomOptions,
    PlanOptions,
    PretrainedFirstStageOptions,
    QualitySummaryOptions,
    ScoreOptions,
    SegmentationOptions,
    ShardOptions,
    SplitOptions,
    StageOptions,
    StyleBankOptions,
)
from stedm.config.study import Study, load, validate
from stedm.config.training import Device, Training

__all__ = [name for name in dir() if name[0].isupper()] + [
    "choices",
    "load",
    "mask_range",
    "merge",
    "messages",
    "validate",
]
