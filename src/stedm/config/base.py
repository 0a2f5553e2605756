"""What the sections are made of: the base class, and types with their ranges."""

import os
import re
import unicodedata
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$", max_length=60)]
"""Part of file names, several of which must fit into 255 bytes."""

IGNORE_INDEX = 255
"""Label of pixels that nobody annotated: neither trained on nor scored."""


def ascending(values: tuple[float, float]) -> tuple[float, float]:
    """The ends of an interval, the smaller one first."""
    if values[0] > values[1]:
        raise ValueError(f"the interval runs from {values[0]:g} down to {values[1]:g}; give the smaller end first")
    return values


def once(values: list[int]) -> list[int]:
    """The values, none of which appears twice."""
    if repeated := sorted({value for value in values if values.count(value) > 1}):
        raise ValueError(f"{', '.join(map(str, repeated))} appears twice; give each number once")
    return values


def expanded(value: str) -> str:
    """A path with its `${VARIABLES}` replaced."""
    value = os.path.expandvars(value)
    if missing := re.findall(r"\$\{?(\w+)", value):
        raise ValueError(f"the environment variable {missing[0]} is not set; set it, or write the folder itself")
    return value


PathName = Annotated[str, AfterValidator(expanded)]


def normalised(name: str) -> str:
    """The name of a shape's class as all are compared: in Unicode's composed form (Macs write letters and their accents
    apart), no blanks around it."""
    return unicodedata.normalize("NFC", name).strip()


ShapeName = Annotated[str, AfterValidator(normalised)]


def unshowable(text: str) -> str:
    """The characters of a text that no page or figure can show: control characters, marks that turn the direction."""
    return "".join(
        sorted({one for one in text if not (one.isprintable() or one == "\n" or unicodedata.category(one) == "Zs")})
    )


def showable(value: str) -> str:
    """A text that can be shown."""
    if wrong := unshowable(value):
        raise ValueError(f"the characters {wrong!r} cannot be shown; leave them out")
    return value


Text = Annotated[str, Field(min_length=1), AfterValidator(showable)]
"""Free text."""

CHANGES_NO_RESULT = "changes no result"
"""Marks a field that may differ between two runs of one training: it is not part of the training's identity."""


class Section(BaseModel):
    """A part of the configuration; unknown keys are mistakes."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    def identity(self) -> dict[str, Any]:
        """The values that a result depends on, as JSON-like values: all but those marked `CHANGES_NO_RESULT`."""
        values = self.model_dump(mode="json")
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if CHANGES_NO_RESULT in field.metadata:
                del values[name]
            elif isinstance(value, Section):
                values[name] = value.identity()
        return values
