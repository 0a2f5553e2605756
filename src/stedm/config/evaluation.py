"""Evaluation of networks and of generated images, and the comparison of arms."""

from typing import Annotated

from pydantic import AfterValidator, Field

from stedm.config.base import Count, Name, Section, once


class Windows(Section):
    """How a network is applied to a slide: as a sliding window."""

    overlap: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Overlap of neighbouring windows as a share of their size."""
    batch_size: Count = 64
    """Windows, or images, predicted at a time."""


class ImageEvaluation(Section):
    """How generated images are evaluated."""

    batch_size: Count = 64
    """Images evaluated at a time."""
    evaluated_images: Count = 400
    """Images of each source that are evaluated."""
    features: str = "segmenter"
    """Network whose features generated and real images are compared by: `segmenter` (the encoder of evaluator_arm's
    network; for structure that of reference_arm's, if it is another, of real images with `annotations: annotated`;
    without such a network nothing is compared), `inception` (a download), a timm model, a hub id (`hf-hub:owner/name`),
    or its folder."""


class QualitySummary(Section):
    """How the evaluations of generated images are summed up."""

    features: str = "segmenter"
    bootstrap: Count = 10_000
    """Resamples of each interval."""


class Comparison(Section):
    """How arms are compared."""

    reference_arm: Name = "strong"
    """Arm that the others are compared to: the best that needs no unannotated patients."""
    claim: Annotated[list[Name], Field(min_length=2, max_length=2), AfterValidator(once)] | None = None
    """What the study is to show, named before it runs: an arm, and the one that it is compared to. All other
    comparisons are exploratory (default: all are)."""
    bootstrap: Count = 10_000
    """Resamples of each interval."""


class ScoredClasses(Section):
    reference_arm: Name = "strong"
    """Arm that the others are compared to."""
    classes: list[Name] | None = None
    """Classes whose mean Dice is the score of an arm (default: all but the first)."""


class Evaluation(Windows, ImageEvaluation, QualitySummary, Comparison, ScoredClasses):
    evaluator_arm: Name | None = None
    """Arm whose network measures whether generated images follow their layout (default: none, it is not measured)."""
