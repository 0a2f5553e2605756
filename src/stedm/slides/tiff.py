"""What kind of pixels a TIFF holds, said by its tags before the first pixel is read, and small TIFFs as colours.

OpenSlide and Pillow read some kinds of TIFF wrongly and say nothing: 12 bits in 16 become black, the first of several
channels becomes a grey image, an orientation turns each tile in its place. `describe` refuses what has no one meaning;
`load` reads what it accepted, whatever OpenSlide makes of it.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

import numpy as np
from defusedxml import DefusedXmlException, ElementTree
from PIL import Image
from tifffile import COMPRESSION, EXTRASAMPLE, PHOTOMETRIC, PLANARCONFIG, TiffFile, TiffFileError, TiffPage

SIGNATURES = b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"
"""First bytes of TIFF and BigTIFF, of either byte order."""
ORIENTATION = 274
"""Number of the tag, of TIFF and of EXIF, that says how an image is turned."""
LARGEST_TILE = 2048**2
"""Pixels of a tile, which is decoded as a whole however little of it is wanted."""
MOST_PAGES = 10_000
BAND = 2**22
"""Pixels that are brought into 8 bits of RGB at a time."""
SAVE_AS_RGB = "save it as RGB of 8 bits a channel (in Fiji: Image > Type > RGB Color)"
TRANSPARENT = "has a channel of transparency: what is transparent is read as white"
PLURALS = {"C": "channels", "Z": "focal planes", "T": "points in time"}
JPEG = COMPRESSION.JPEG, COMPRESSION.OJPEG
LEAST_REDUCTION = 1.9
"""A page that is larger and does not call itself reduced is another image, no level of a pyramid."""
LABEL = 4
"""Labels and overviews of a slide are smaller than it by this factor of area; others are images in their own right."""
INCHES, CENTIMETRES = 2, 3
MICROMETRES = {"nm": 1e-3, "µm": 1.0, "um": 1.0, "micron": 1.0, "microns": 1.0, "mm": 1e3, "cm": 1e4, "inch": 25_400.0}
"""In the units of OME-XML, and as ImageJ's users write them."""


class WrongKind(Exception):
    """The pixels are of a kind that is not read; the message says which, and the remedy."""


@dataclass(frozen=True)
class Tiff:
    """What the tags of a TIFF say of its first image.

    Attributes:
        orientation: 1 to 8, as in EXIF; 1 is upright.
        bits: of a sample.
        maximum: value that is white, or full intensity.
        compression: its name.
        mpp: µm per pixel in x and y, where the file says it.
        notes: what the user should know, though it stops nothing.
    """

    orientation: int
    bits: int
    maximum: int
    compression: str
    mpp: tuple[float, float] | None
    notes: tuple[str, ...]


def is_tiff(path: Path) -> bool:
    """Whether a file begins as a TIFF does."""
    with path.open("rb") as file:
        return file.read(4) in SIGNATURES


def describe(path: Path) -> Tiff:
    """Read the tags of an ordinary TIFF: one that no scanner's vendor gave rules of its own.

    Raises:
        WrongKind: it holds several images, or pixels without one meaning as colours.
    """
    with TiffFile(path) as file:
        first, notes = single_image(file)
        check_samples(first)
        check_tiles(first)
        if first.extrasamples:
            notes.append(TRANSPARENT)
        ome = ome_pixels(file)
        return Tiff(
            orientation_of(first),
            first.bitspersample,
            maximum_of(first, ome),
            COMPRESSION(first.compression).name,
            ome_mpp(ome) or resolution(file, first),
            tuple(notes),
        )


def check_scanners(path: Path) -> None:
    """Refuse a scanner's slide that is turned, each tile of which OpenSlide would turn, or of more than 8 bits.

    Raises:
        WrongKind: a level is.
    """
    with suppress(TiffFileError, ValueError), TiffFile(path) as file:  # its index may be odd, and OpenSlide know better
        for page in file.pages:
            if not isinstance(page, TiffPage) or not page.is_tiled:
                continue
            check_tiles(page)
            if orientation_of(page) != 1:
                raise WrongKind(not_upright(orientation_of(page)))
            if page.bitspersample > 8:
                raise WrongKind(f"has {page.bitspersample} bits a channel, of which 8 would be read; {SAVE_AS_RGB}")


def check_tiles(page: TiffPage) -> None:
    """Refuse tiles that would fill the memory."""
    if page.is_tiled and page.tilewidth * page.tilelength > LARGEST_TILE:
        raise WrongKind(
            f"has tiles of {page.tilewidth} × {page.tilelength} px, each of which must be decoded as a whole; save it"
            " with smaller ones (vips tiffsave in.tif out.tif --tile --pyramid --bigtiff --compression jpeg)"
        )


def too_large(width: int, height: int, megapixels: float) -> str:
    """Says that an image is too large to be decoded as a whole, and what to do."""
    return (
        f"has {width} × {height} px, too many to decode as a whole; save it as a tiled TIFF, such as with `vips"
        " tiffsave <image> <slide>.tiff --tile --pyramid --bigtiff --compression jpeg`, or raise"
        f" patches.max_megapixels ({megapixels:g}), where there are 12 bytes of memory for each pixel"
    )


def not_upright(orientation: int) -> str:
    return (
        f"is stored turned (orientation {orientation}, tag {ORIENTATION}), which is undone here only where an image is"
        " read as a whole; turn its pixels (vips autorot in.tif out.tif[tile,pyramid,bigtiff,compression=jpeg])"
    )


def single_image(file: TiffFile) -> tuple[TiffPage, list[str]]:
    """The first page, where it is the one image that counts, and notes on the others.

    Raises:
        WrongKind: several images may be the one, or the file is cut short.
    """
    pages = list(whole_pages(file))
    check_axes(file, pages[0])
    return pages[0], check_pages(pages)


def whole_pages(file: TiffFile) -> Iterator[TiffPage]:
    """The pages. A chain of them that leads beyond the file's end is a file cut short; one in a circle has no end."""
    offsets: set[int] = set()
    for page in file.pages:
        assert isinstance(page, TiffPage)
        if page.offset in offsets:
            raise WrongKind("is damaged: its pages form a circle; copy it again from its source")
        if len(offsets) == MOST_PAGES:
            raise WrongKind(f"has more than {MOST_PAGES:,} pages; save the one that counts as a file of its own")
        offsets.add(page.offset)
        yield page
    file.filehandle.seek(file.pages.next_page_offset or 0)
    last = file.filehandle.read(file.tiff.offsetsize)
    if len(last) < file.tiff.offsetsize or any(last):
        raise WrongKind("is cut short; copy it again from its source")


def check_axes(file: TiffFile, page: TiffPage) -> None:
    """Refuse stacks of channels, planes or times, which may stand in one page (ImageJ) or in many (OME)."""
    series = file.series[0]
    others = [(axis, size) for axis, size in zip(series.axes, series.shape, strict=True) if axis not in "YXS"]
    others = [(axis, size) for axis, size in others if size > 1]
    if not others and page.imagedepth == 1:
        return
    kinds = " × ".join(f"{size} {PLURALS.get(axis, 'images')}" for axis, size in others) or "a volume"
    remedy = f"{SAVE_AS_RGB}, or save the channel" if "C" in dict(others) else "save the one"
    raise WrongKind(
        f"holds {kinds} of {page.imagewidth} × {page.imagelength} px, not one image; {remedy} that counts as a file of"
        " its own"
    )


def check_pages(pages: Sequence[TiffPage]) -> list[str]:
    """Refuse several images of about one size, and a thumbnail before the slide; return notes on the others."""
    first = pages[0]
    size = first.imagewidth, first.imagelength
    passed = []
    for page in pages[1:]:
        other = page.imagewidth, page.imagelength
        if page.is_mask:
            continue
        least = 1.0 if page.is_reduced else LEAST_REDUCTION
        if is_copy(size, other) and size[0] > other[0] * least:
            continue
        shown = f"{size[0]} × {size[1]} and {other[0]} × {other[1]} px"
        if LABEL * np.prod(other) > np.prod(size) or (page.is_reduced and page.is_tiled):
            raise WrongKind(
                f"holds several images, among them of {shown}, of which the first would be read; save the one that"
                " counts as a file of its own"
            )
        passed.append(f"{other[0]} × {other[1]} px")
    return [f"holds more images ({', '.join(passed)}), which are not read: a label or an overview?"] if passed else []


def is_copy(size: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether an image is a smaller copy of another, its sides cut off or filled up to whole pixels."""
    low = max(there / (here + 1) for there, here in zip(size, other, strict=True))
    high = min(there / max(here - 1, 1e-9) for there, here in zip(size, other, strict=True))
    return low <= high


def check_samples(page: TiffPage) -> None:
    """Refuse all but grey, RGB, YCbCr, CMYK and palettes, of whole numbers, with nothing else than transparency."""
    extra = tuple(page.extrasamples)
    colours = page.samplesperpixel - len(extra)
    kind = f"has {page.samplesperpixel} × {page.bitspersample} bits of the kind {PHOTOMETRIC(page.photometric).name}"
    known: dict[int, int] = {
        PHOTOMETRIC.MINISBLACK: 1,
        PHOTOMETRIC.MINISWHITE: 1,
        PHOTOMETRIC.PALETTE: 1,
        PHOTOMETRIC.RGB: 3,
        PHOTOMETRIC.YCBCR: 3,
        PHOTOMETRIC.SEPARATED: 4,
    }
    if page.dtype is None or page.dtype.kind not in "bu" or page.bitspersample > 16:
        numbers = "no pixels" if page.dtype is None else f"numbers of the type {page.dtype}"
        raise WrongKind(f'has {numbers}, not colours of 8 bits; {SAVE_AS_RGB}, put a mask into the column "annotation"')
    if known.get(page.photometric) != colours or len(extra) > 1:
        raise WrongKind(f"{kind}, which is not read as colours; {SAVE_AS_RGB}")
    if EXTRASAMPLE.UNSPECIFIED in extra:
        raise WrongKind(f"{kind} and does not say that the last is transparency; save it without it")


def maximum_of(page: TiffPage, ome: Element | None) -> int:
    """The value that is full intensity: of all bits below 16, and what the file itself says of 16.

    Raises:
        WrongKind: the file does not say how many of its 16 bits are used.
    """
    if page.bitspersample < 16:
        return int(2**page.bitspersample - 1)
    if ome is not None and (significant := ome.get("SignificantBits", "")) in map(str, range(8, 17)):
        return int(2 ** int(significant) - 1)
    if (tag := page.tags.get("MaxSampleValue")) is not None and (highest := int(np.max(tag.value))) >= 255:
        return highest
    raise WrongKind(
        "has 16 bits a channel and does not say how bright white is (tag MaxSampleValue, or SignificantBits of"
        f' OME-XML); {SAVE_AS_RGB}, put a mask into the column "annotation"'
    )


def orientation_of(page: TiffPage) -> int:
    return known_orientation(page.tags.valueof(ORIENTATION))


def known_orientation(value: object) -> int:
    """1 to 8; what is no orientation is upright."""
    return value if isinstance(value, int) and value in TURNS else 1


def ome_pixels(file: TiffFile) -> Element | None:
    """The element of OME-XML that says what the first image's pixels are."""
    with suppress(ParseError, DefusedXmlException):
        return ElementTree.fromstring((file.ome_metadata or "").encode()).find(".//{*}Pixels")
    return None


def ome_mpp(ome: Element | None) -> tuple[float, float] | None:
    """Physical sizes of OME-XML as µm; None where it has none, or no unit of length."""
    if ome is None:
        return None
    try:
        x, y = (
            float(ome.attrib[f"PhysicalSize{axis}"]) * MICROMETRES[ome.get(f"PhysicalSize{axis}Unit", "µm")]
            for axis in "XY"
        )
    except (KeyError, ValueError):
        return None
    return x, y


def resolution(file: TiffFile, page: TiffPage) -> tuple[float, float] | None:
    """µm per pixel from the tags, whose unit ImageJ gives in its own description."""
    found = [page.tags.valueof(name) for name in ("XResolution", "YResolution")]
    if not all(isinstance(value, tuple) and len(value) == 2 and min(value) > 0 for value in found):
        return None
    per_unit = [value[0] / value[1] for value in found]
    unit = page.tags.valueof("ResolutionUnit", default=INCHES)
    length = {INCHES: MICROMETRES["inch"], CENTIMETRES: MICROMETRES["cm"]}.get(unit)
    if file.imagej_metadata:
        length = MICROMETRES.get(str(file.imagej_metadata.get("unit", "")).replace("\\u00B5", "µ"), length)
    return None if length is None else (length / per_unit[0], length / per_unit[1])


def load(path: Path, tiff: Tiff, megapixels: float) -> np.ndarray:
    """The first image as (h, w, 3) uint8 RGB, upright, on white where it is transparent.

    Args:
        path: of the file.
        tiff: what `describe` says of it.
        megapixels: that it may have.

    Raises:
        WrongKind: it is too large for that, cut short, or brighter than its own maximum.
    """
    with TiffFile(path) as file:
        page = file.pages.first
        if page.imagewidth * page.imagelength > megapixels * 1e6:
            raise WrongKind(
                not_upright(tiff.orientation)
                if tiff.orientation != 1
                else f"is of a kind that OpenSlide does not read ({tiff.compression}, {tiff.bits} bits), and "
                + too_large(page.imagewidth, page.imagelength, megapixels)
            )
        if np.add(page.dataoffsets, page.databytecounts).max() > file.filehandle.size:
            raise WrongKind("is cut short; copy it again from its source")
        if page.photometric == PHOTOMETRIC.YCBCR and page.compression not in JPEG:
            raise WrongKind(f"has YCbCr colours that are not compressed as JPEG ({tiff.compression}); {SAVE_AS_RGB}")
        values = samples(page, page.asarray())
        colours = np.empty((*values.shape[:2], 3), np.uint8)
        rows = max(1, BAND // page.imagewidth)
        for start in range(0, len(values), rows):
            band = slice(start, start + rows)
            colours[band] = to_rgb(page, in_eight_bits(page, values[band], tiff.maximum))
    return np.ascontiguousarray(upright(colours, tiff.orientation))


def samples(page: TiffPage, values: np.ndarray) -> np.ndarray:
    """What tifffile reads of a page, as (h, w, S)."""
    if page.planarconfig == PLANARCONFIG.SEPARATE and page.samplesperpixel > 1:
        values = np.moveaxis(values, 0, -1)
    return values.reshape(page.imagelength, page.imagewidth, page.samplesperpixel)


def in_eight_bits(page: TiffPage, values: np.ndarray, maximum: int) -> np.ndarray:
    """Samples as uint8, scaled so that the maximum is 255; numbers of colours in a palette as they are."""
    if page.photometric == PHOTOMETRIC.PALETTE or (values.dtype == np.uint8 and maximum == 255):
        return values
    if (brightest := values.max()) > maximum:
        raise WrongKind(f"has values up to {brightest}, above the maximum of {maximum} that it gives; {SAVE_AS_RGB}")
    return np.rint(np.arange(maximum + 1) * (255 / maximum)).astype(np.uint8)[values.astype(np.uint16)]


def to_rgb(page: TiffPage, values: np.ndarray) -> np.ndarray:
    """(h, w, 3) uint8 RGB of the samples (h, w, S) uint8 that `check_samples` accepted."""
    alpha = values[..., -1:] if page.extrasamples else None
    colours = values if alpha is None else values[..., :-1]
    match page.photometric:
        case PHOTOMETRIC.MINISWHITE:
            colours = 255 - colours
        case PHOTOMETRIC.PALETTE:
            assert page.colormap is not None
            colours = (page.colormap.T >> 8).astype(np.uint8)[colours[..., 0]]
        case PHOTOMETRIC.SEPARATED:
            colours = np.asarray(Image.fromarray(np.ascontiguousarray(colours), "CMYK").convert("RGB"))
    if alpha is not None:
        share = alpha.astype(np.float32) / 255
        ground = 255 * (1 - share)
        premultiplied = EXTRASAMPLE.ASSOCALPHA in tuple(page.extrasamples)
        colours = np.rint((colours if premultiplied else colours * share) + ground).clip(0, 255).astype(np.uint8)
    return np.broadcast_to(colours, (*colours.shape[:2], 3))


TURNS = {
    1: (False, False, False),
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}
"""By orientation: whether rows are columns, and then whether what is down, and what is right, is the other way."""


def upright(image: np.ndarray, orientation: int) -> np.ndarray:
    """An image or mask (h, w, …) as it is to be seen, of the pixels as they are stored."""
    swapped, down, right = TURNS[orientation]
    image = image.swapaxes(0, 1) if swapped else image
    return image[:: -1 if down else 1, :: -1 if right else 1]
