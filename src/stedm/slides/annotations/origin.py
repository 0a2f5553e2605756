"""Which area of a slide coordinates count from, and masks cover: the canvas, or the scanned area on it.

Some scanners (MIRAX, Leica SCN) lay what they scanned on a larger canvas. OpenSlide's coordinates, and ours, are the
canvas's. QuPath crops a slide to the scanned area and counts from its corner; other programs do not.
"""

from stedm.config import Origin

Area = tuple[int, int, int, int]
"""Level-0 x, y, width and height on the canvas."""


def area_of(origin: Origin, format: str, dimensions: tuple[int, int], bounds: Area | None) -> Area:
    """The area from whose upper left corner a file's coordinates count.

    Args:
        origin: `annotations.origin`; auto: what programs do that write the format.
        format: of the file: "geojson" is QuPath's.
        dimensions: (width, height) of the canvas.
        bounds: the scanned area, None where it is all of the canvas.
    """
    if origin == "auto":
        origin = "bounds" if format == "geojson" else "canvas"
    return (0, 0, *dimensions) if bounds is None or origin == "canvas" else bounds
