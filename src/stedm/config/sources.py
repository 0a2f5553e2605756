"""Sources of labelled images beside the annotated patches: each generator, and what the section `sources` names."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from stedm.config.base import Fraction, Name, Section
from stedm.config.generator import Filter


class FromGenerator(Section):
    """Images of a generator. A study file does not say so: each generator is a source, by its own name."""

    kind: Literal["generator"] = "generator"
    styled: bool
    filter: Filter | None


class Recolour(Section):
    """Annotated patches in the colours and spectrum of unannotated slides, in closed form: no network is trained."""

    kind: Literal["recolour"]
    """Annotated patches, recoloured."""
    styled: ClassVar[bool] = True


class PseudoLabels(Section):
    """Unannotated patches as they are, labelled by the network of an arm."""

    kind: Literal["pseudo_labels"]
    """Unannotated patches, labelled by a network."""
    arm: Name
    """Arm whose network (of the first seed) labels them."""
    confidence: Fraction | dict[Name, Fraction] = 0.8
    """Pixels whose class is less probable are left out of the training: one number, or one for each class."""
    styled: ClassVar[bool] = False

    def thresholds(self, class_names: list[str]) -> list[float]:
        """The least confidence of each class."""
        return [self.confidence[name] if isinstance(self.confidence, dict) else self.confidence for name in class_names]


Source = Annotated[Recolour | PseudoLabels, Field(discriminator="kind")]
AnySource = Annotated[FromGenerator | Recolour | PseudoLabels, Field(discriminator="kind")]
