"""Who opens a file: OpenSlide where it reads that kind rightly, else Pillow or tifffile, which read it as a whole."""

import contextlib
import re
import threading
import weakref
from collections.abc import Iterable, Iterator, Sequence
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import NamedTuple

import openslide
from PIL import Image, ImageOps

from stedm.errors import UserError
from stedm.sheet import Slide
from stedm.slides import tiff
from stedm.slides.tiff import WrongKind

IMAGE_FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "JPEG2000")
"""Of Pillow's formats those without programs in them, as EPS has."""


SCAN = re.compile(b"\xff\xda")
"""Start of a scan of a JPEG."""
MOST_SCANS = 100
"""Programs that shrink JPEGs write up to some twenty, and thumbnails have some of their own."""
LONGEST_INDEX = 2**20
"""Characters of a file that lists the others of its slide."""
DECODING = threading.Lock()
"""Held while an image is decoded as a whole, and while a large one is open: several at once, with the copies that it
takes to decode them, would fill the memory."""
LARGE = 50e6
"""Pixels of such an image."""
COSTLY = {"JPEG2000": 2}
"""Formats that take so many times the memory, and minutes of time, where others take seconds."""


class UnreadableSlide(UserError):
    """The slide file is missing, broken, or no slide at all: the study can go on without it."""


class Found(NamedTuple):
    """An open file.

    Attributes:
        handle: reads it as OpenSlide does.
        reader: its name.
        mpp: µm per pixel in x and y that the file says, whether they can be or not.
        notes: what the user should know of it.
    """

    handle: openslide.AbstractSlide
    reader: str
    mpp: tuple[float, float] | None
    notes: Sequence[str] = ()


class WholeImage(openslide.ImageSlide):
    """An image that was decoded as a whole.

    Args:
        image: decoded.
        turn: what is held while it is decoded; of a large image also until it is closed, or gone.
    """

    def __init__(self, image: Image.Image, turn: contextlib.ExitStack):
        super().__init__(image)
        large = image.width * image.height > LARGE
        self._end = weakref.finalize(self, turn.pop_all().close) if large else None

    def close(self) -> None:
        super().close()
        if self._end is not None:
            self._end()


def open_file(slide: Slide, megapixels: float) -> Found:
    """Open a file: by OpenSlide where it reads that kind rightly, else as a whole.

    Args:
        slide: the row of the sheet.
        megapixels: that an image which is decoded as a whole may have.

    Raises:
        UnreadableSlide: it is not there, broken, or of a kind that is not read.
    """
    path = slide.path
    if path.exists() and not path.is_file():
        raise UnreadableSlide(f"{named(slide)}: is no regular file; correct the path in the sheet")
    if not path.exists():
        raise UnreadableSlide(f"{named(slide)}: there is no such file; fix the path in the sheet, or set slides.root")
    try:
        check_parts(path, [*path.with_suffix("").glob("*")] if path.suffix.lower() == ".mrxs" else [])
        vendor = openslide.OpenSlide.detect_format(path)
        check_parts(path, parts_of(path, vendor))
        if tiff.is_tiff(path):
            return open_tiff(path, megapixels) if vendor in (None, "generic-tiff") else open_scanners(path)
        return open_image(path, megapixels) if vendor is None else Found(*by_openslide(path))
    except openslide.OpenSlideError as error:
        raise UnreadableSlide(
            f"{named(slide)}: cannot be opened ({error}); copy it again from its source, or take it out of the sheet"
        ) from error
    except WrongKind as error:
        raise UnreadableSlide(f"{named(slide)}: {error}, or take it out of the sheet") from error
    except Exception as error:  # Pillow and tifffile raise half a dozen types for a broken file
        raise UnreadableSlide(
            f"{named(slide)}: is neither a slide nor an image that can be read ({error}); copy it again from its"
            " source, convert it, or take it out of the sheet"
        ) from error


def by_openslide(path: Path) -> tuple[openslide.OpenSlide, str, tuple[float, float] | None]:
    handle = openslide.OpenSlide(path)
    names = openslide.PROPERTY_NAME_MPP_X, openslide.PROPERTY_NAME_MPP_Y
    x, y = (to_number(handle.properties.get(name)) for name in names)
    vendor = handle.properties[openslide.PROPERTY_NAME_VENDOR]
    return handle, f"openslide {vendor}", None if x is None or y is None else (x, y)


def parts_of(path: Path, vendor: str | None) -> Iterator[Path]:
    """Other files that OpenSlide may open with a slide."""
    match vendor:
        case "hamamatsu" if not tiff.is_tiff(path):
            with path.open(encoding="utf-8", errors="replace") as file:
                names = [line.partition("=")[2].strip() for line in file.read(LONGEST_INDEX).splitlines()]
            yield from (path.parent / name for name in names if "\0" not in name)
        case "dicom":
            yield from path.parent.glob("*")


def check_parts(path: Path, parts: Iterable[Path]) -> None:
    """Refuse a slide of several files, one of which is a pipe or the like, on which OpenSlide would wait for ever.

    Raises:
        WrongKind: one is.
    """
    for part in parts:
        if part.exists() and not part.is_file() and not part.is_dir():
            raise WrongKind(f"{part} is a pipe or device; move it away")


def open_scanners(path: Path) -> Found:
    """Open a TIFF whose pages OpenSlide knows by the rules of the scanner's vendor."""
    tiff.check_scanners(path)
    return Found(*by_openslide(path))


def open_tiff(path: Path, megapixels: float) -> Found:
    """Open an ordinary TIFF: by OpenSlide where that gives the right pixels, else as a whole."""
    facts = tiff.describe(path)
    if facts.orientation == 1 and facts.bits <= 8:
        try:
            handle, reader, _ = by_openslide(path)
            return Found(handle, reader, facts.mpp, facts.notes)
        except openslide.OpenSlideError:  # not tiled, or of a compression that it does not have
            pass
    with contextlib.ExitStack() as turn:
        turn.enter_context(DECODING)
        image = Image.fromarray(tiff.load(path, facts, megapixels))
        return Found(WholeImage(image, turn), "tifffile", facts.mpp, [*facts.notes, *turned(facts.orientation)])


def open_image(path: Path, megapixels: float) -> Found:
    """Load an ordinary image of 8 bits a channel, upright; RGB, or RGBA where it has transparency."""
    with contextlib.ExitStack() as turn, Image.open(path, formats=IMAGE_FORMATS) as image:
        turn.enter_context(DECODING)
        if image.width * image.height * COSTLY.get(image.format or "", 1) > megapixels * 1e6:
            raise WrongKind(tiff.too_large(image.width, image.height, megapixels))
        reader = f"pillow {(image.format or '').lower()}"
        if (count := getattr(image, "n_frames", 1)) > 1:
            raise WrongKind(f"holds {count} images; save the one that counts as a file of its own")
        if (bits := bits_of(path, image)) > 8:
            raise WrongKind(
                f"has {bits} bits a channel, and {image.format} does not say how bright white is; {tiff.SAVE_AS_RGB},"
                ' put a mask into the column "annotation"'
            )
        orientation = tiff.known_orientation(image.getexif().get(tiff.ORIENTATION))
        dpi = [to_number(value) for value in image.info.get("dpi", (None, None))]
        notes = [tiff.TRANSPARENT] if image.has_transparency_data else []
        check_scans(path, image)
        mode = "RGBA" if image.has_transparency_data else "RGB"
        image.load()
        loaded: Image.Image = image if image.mode == mode else image.convert(mode)
        ImageOps.exif_transpose(loaded, in_place=True)  # at no time are there more copies than need be
        loaded.info = {}  # colour profiles, which would be copied with each region
        mpp = None if None in dpi else (25_400 / dpi[0], 25_400 / dpi[1])  # type: ignore[operator]
        return Found(WholeImage(loaded, turn), reader, mpp, [*notes, *turned(orientation)])


def check_scans(path: Path, image: Image.Image) -> None:
    """Refuse a JPEG with so many scans, each of which goes through all of its pixels, that it would take minutes.

    Raises:
        WrongKind: it has.
    """
    if image.format != "JPEG":
        return
    with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as data:
        scans = sum(1 for _ in SCAN.finditer(data))
    if scans > MOST_SCANS:
        raise WrongKind(f"is a JPEG of {scans:,} scans, more than any program writes; save it anew")


def bits_of(path: Path, image: Image.Image) -> int:
    """Bits of a channel, which Pillow cuts down to 8 without a word."""
    with path.open("rb") as file:
        head = file.read(2**16)
    if image.format == "PNG":
        return head[24]
    if image.format == "JPEG2000" and (start := head.find(b"\xff\x4f\xff\x51")) >= 0:  # start of the code stream, sizes
        return (head[start + 42] & 0x7F) + 1
    return 8


def turned(orientation: int) -> list[str]:
    """A note on an image that is stored turned."""
    if orientation == 1:
        return []
    return [
        f"is stored turned or mirrored (orientation {orientation}) and read upright; annotations of programs that do"
        " not turn it lie elsewhere"
    ]


def to_number(value: object) -> float | None:
    """A positive finite number, or None."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return number if 0 < number < float("inf") else None


def named(slide: Slide) -> str:
    return f"slide {slide.slide!r} ({Path(slide.path)})"
