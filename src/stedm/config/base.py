"""What the sections are made of: the base class, and types with their ranges."""

import os
import re
import unicodedata
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Value = TypeVar("Value", int, str)
Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$", max_length=60)]
"""Part of file names, several of which must fit into 255 bytes."""

IGNORE_INDEX = 255
"""Label of pixels that nobody annotated: neither trained on nor scored."""


def ascending(values: tuple[float, float]) -> tuple[float, float]:
    """The ends of an interval, the smaller one first."""
    if values[0] > values[1]:
        raise ValueError(f"the interval runs from {values[0]:g} down to {values[1]:g}; give the smaller end first")
    return values


def once(values: list[Value]) -> list[Value]:
    """The values, none of which appears twice."""
    if repeated := sorted({value for value in values if values.count(value) > 1}):
        raise ValueError(f"{', '.join(map(str, repeated))} appears twice; give each once")
    return values


def expanded(value: str) -> str:
    """A path with its `${VARIABLES}` replaced."""
    value = os.path.expandvars(value)
    if missing := re.findall(r"\$\{?(\w+)", value):
        raise ValueError(f"the environment variable {missing[0]} is not set; set it, or write the folder itself")
    return value


PathName = Annotated[str, AfterValidator(expanded)]


BREAKS = re.compile(r"\s*[\t\n\v\f\r\x1c-\x1e\x85\u2028\u2029]\s*")
"""Tabs and breaks of lines, with the blanks around them."""


def one_line(text: str) -> str:
    """The text with a blank in place of tabs and breaks of lines, which come with cells that are pasted: they mean
    nothing, and neither a figure nor a table of one line a row can show them."""
    return BREAKS.sub(" ", text).strip(" ")


def normalised(name: str) -> str:
    """The name of a shape's class as all are compared: in Unicode's composed form (Macs write letters and their accents
    apart), on one line, no blanks around it."""
    return one_line(unicodedata.normalize("NFC", name)).strip()


ShapeName = Annotated[str, AfterValidator(normalised)]


def unshowable(text: str) -> str:
    """The characters of a text that no page or figure can show: control characters, marks that turn the direction."""
    return "".join(sorted({one for one in text if not (one.isprintable() or unicodedata.category(one) == "Zs")}))


def showable(value: str) -> str:
    """A text that can be shown, on one line."""
    value = one_line(value)
    if not value:
        raise ValueError("it is empty; write some text")
    if wrong := unshowable(value):
        raise ValueError(f"the characters {wrong!r} cannot be shown; leave them out")
    return value


Text = Annotated[str, AfterValidator(showable)]
"""Free text. Tabs and breaks of lines become blanks; other control characters, and marks that turn the direction of
writing, are refused: what they do to a terminal, a page or a figure is not what the reader of a label sees."""

CHANGES_NO_RESULT = "changes no result"
"""Marks a field that may differ between two runs of one training: it is not part of the training's identity."""


class Section(BaseModel):
    """A part of the configuration; unknown keys are mistakes."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)

    def identity(self) -> dict[str, Any]:
        """The values that a result depends on, as JSON-like values: all but those marked `CHANGES_NO_RESULT`."""
        values = self.model_dump(mode="json")
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if CHANGES_NO_RESULT in field.metadata:
                values.pop(name, None)
            elif isinstance(value, Section):
                values[name] = value.identity()
        return values
