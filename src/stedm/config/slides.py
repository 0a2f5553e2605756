"""Slides, annotations, patches and splits."""

import itertools
import re
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import AfterValidator, Field, WithJsonSchema, field_validator, model_validator

from stedm.config.base import Count, Fraction, Name, PathName, Positive, Section, Seed, ShapeName, once


class Phantoms(Section):
    """Phantom slides, rendered before anything else where the study has this section."""

    size: Annotated[int, Field(ge=256)] = 1536
    """Pixels along a side."""
    mpp: Positive = 0.5
    """Micrometres per pixel."""
    seed: Seed = 0
    """Seed of their tissue."""


class Slides(Section):
    sheet: PathName
    """The sample sheet, a CSV file with one row per slide; `${VARIABLES}` are expanded."""
    root: PathName | None = None
    """Folder that relative paths of the sheet start from (default: the sheet's own); `${VARIABLES}` are expanded."""
    mpp: Positive | None = None
    """µm per level-0 pixel of all slides for which the sheet gives none, as if it stood there."""


MaskValue = Annotated[str, WithJsonSchema({"type": ["integer", "string"]})]


class TissueClass(Section):
    """One class of the layout; its place in the list is its label."""

    name: Name
    """Its name in tables, figures and file names."""
    color: Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$")]
    """Its colour in maps and figures, "#rrggbb"."""
    annotations: list[ShapeName] = []
    """Names of this class in annotation files (QuPath classifications); by default its own name. Shapes that have no
    class are called `Unclassified`."""
    mask_values: list[MaskValue] = []
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


Origin = Literal["auto", "bounds", "canvas"]
"""Where coordinates count from on slides whose scanned area (OpenSlide's bounds) is a part of their canvas."""


MAX_SHAPES = 300_000


class Annotations(Section):
    regions: list[ShapeName] = ["Region*"]
    """Annotation classes that say what area is annotated. Without any in a file, its own polygons are the area."""
    fill: Name | None = None
    """Class of annotated area that no polygon covers (null: it stays unannotated)."""
    ignore: list[ShapeName] = ["Ignore*"]
    """Annotation classes that are neither trained on nor scored."""
    whole_slide: bool = False
    """All of a slide is annotated where its file has no region, and `fill` is what no polygon covers."""
    without_area: Literal["ignore", "refuse"] = "ignore"
    """Points and lines: passed over with a count, or an error."""
    origin: Origin = "auto"
    """Corner that coordinates count from: `bounds`, that of the scanned area, as QuPath counts; `canvas`, as OpenSlide
    and all others do; `auto`: `bounds` for GeoJSON, `canvas` for ASAP, ImageScope and COCO, masks by their size."""
    max_shapes: Annotated[int, Field(ge=1)] = MAX_SHAPES
    """Most shapes of an annotation file, with 1,000 characters each on average; reading one takes up to 12 kB."""

    @model_validator(mode="after")
    def whole_slide_is_filled(self) -> Self:
        if self.whole_slide and self.fill is None:
            raise ValueError("whole_slide needs fill: the class of what no polygon covers")
        return self


class Tissue(Section):
    """Tissue mask: saturation above a threshold at low power, then holes and specks cleaned."""

    mpp: Positive = 8.0
    """Resolution of the mask, in micrometres per pixel."""
    saturation: Literal["otsu"] | Fraction = "otsu"
    """Threshold: `otsu`, or a number in [0, 1]."""
    min_saturation: Fraction = 0.03
    """Floor under Otsu's threshold, so that a slide of bare glass has no tissue."""
    max_saturation: Fraction = 0.1
    """Ceiling over it, so that pale tissue is found, and an image without glass is not parted into nuclei and rest."""
    min_area: Positive = 20_000.0
    """Smaller pieces are specks, in µm²."""
    min_hole: Positive = 20_000.0
    """Smaller holes are filled, in µm²."""
    masks: PathName | None = None
    """Folder of masks made elsewhere, one per slide (`<slide>.png`, `.tif`, `.geojson`), taken as they are: of the keys
    above only `mpp` counts."""
    origin: Origin = "auto"
    """Corner that these masks count from, as in `annotations.origin`; contours of TRIDENT want `canvas`."""

    @model_validator(mode="after")
    def floor_below_ceiling(self) -> Self:
        if self.min_saturation > self.max_saturation:
            raise ValueError(
                f"min_saturation ({self.min_saturation:g}) is above max_saturation ({self.max_saturation:g}); lower it"
            )
        return self


MAX_MEGAPIXELS = 200.0


class Patches(Section):
    size: Annotated[int, Field(ge=16)] = 64
    """Pixels along a side."""
    mpp: Positive | None = None
    """Micrometres per pixel; give either this or `level`."""
    level: Annotated[int, Field(ge=0)] | None = None
    """Read this level as it is, instead of a resolution: for images without a scale."""
    overlap: Annotated[int, Field(ge=0)] = 0
    """Pixels that neighbouring patches share."""
    min_tissue: Fraction = 0.5
    """Least share of tissue in a patch."""
    coords: PathName | None = None
    """Folder of coordinates that CLAM or TRIDENT wrote, one file a slide (`<slide>.h5`, `<slide>_patches.h5`): all of
    their patches are cut, instead of those on a grid of ours."""
    storage: Literal["raw", "jpeg"] = "raw"
    """`raw`: pixels as they are, read 20 times faster; `jpeg`: an eighth of the space."""
    jpeg_quality: Annotated[int, Field(ge=1, le=100)] = 90
    """Colour has half the resolution (4:2:0) below 95."""
    max_megapixels: Positive = MAX_MEGAPIXELS
    """Largest image or mask that is decoded as a whole (PNG, JPEG, striped TIFF), which takes up to 12 bytes a pixel;
    and a tenth of the largest level that is read through to find the tissue, where a slide has no smaller one."""
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


class Roles(Section):
    """How patients get their roles in one split."""

    source: Literal["sheet", "random"] = "random"
    """`sheet`: the roles are in the sheet's column `split`; `random`: assigned by patient, stratified by group."""
    test_patients: Count | None = None
    """Test patients in each random split; none with `source: sheet`."""
    validation_patients: Annotated[int, Field(ge=0)] = 0
    """Validation patients in each random split."""

    @model_validator(mode="after")
    def test_set(self) -> Self:
        if self.source == "random" and self.test_patients is None:
            raise ValueError("random splits need test_patients: how many patients are kept for the test")
        return self


class Split(NamedTuple):
    """One split of a study."""

    annotated_patients: int
    """How many patients count as annotated."""
    repeat: int
    """From 0."""

    @property
    def name(self) -> str:
        return f"n{self.annotated_patients}-r{self.repeat}"


class Splits(Roles):
    """All splits of a study: each number of annotated patients in each repeat."""

    repeats: Annotated[int, Field(ge=1, le=1000)] = 1
    """Number of random splits for each number of annotated patients."""
    annotated_patients: Annotated[list[Count], Field(min_length=1), AfterValidator(once)]
    """How many patients count as annotated; several numbers are swept."""

    @property
    def all(self) -> dict[str, Split]:
        """The splits by name."""
        splits = itertools.starmap(Split, itertools.product(self.annotated_patients, range(self.repeats)))
        return {split.name: split for split in splits}
