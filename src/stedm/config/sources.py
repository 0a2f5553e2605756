"""Sources of labelled images beside the annotated patches: each generator, and what the section `sources` names."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from stedm.config.base import Fraction, Name, Section
from stedm.config.generator import Filter, Strength


class Generated(Section):
    """Images of a generator, made otherwise than those of the source that has the generator's own name."""

    kind: Literal["generator"]
    """Images of a generator."""
    generator: Name
    """Which."""
    strength: Strength = 1.0
    """Below 1, images start from annotated patches (SDEdit, Meng et al. 2022), moved as their layouts are, with so much
    of the way to pure noise added."""


class FromGenerator(Generated):
    """All that the source needs to know: what a study file says, or the generator's own name and strength, and whether
    it has style."""

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


class Repaint(Section):
    """Unannotated patches, labelled by the network of an arm and repainted by a generator so that they agree with their
    labels."""

    kind: Literal["repaint"]
    """Unannotated patches, labelled by a network and repainted to agree with their labels."""
    generator: Name
    """A generator with style."""
    arm: Name
    """Arm whose network (of the first seed) labels the patches."""
    confidence: Fraction = 0.8
    """Pixels whose class is less probable are left open."""
    strength: Strength = 0.6
    """Share of the way to pure noise that a patch goes."""
    layout_guidance_scale: Annotated[float, Field(ge=1)] = 2.0
    """Weight of the labels in sampling; 1: no guidance."""
    styled: ClassVar[bool] = True


Source = Annotated[Generated | Recolour | PseudoLabels | Repaint, Field(discriminator="kind")]
AnySource = Annotated[FromGenerator | Recolour | PseudoLabels | Repaint, Field(discriminator="kind")]
