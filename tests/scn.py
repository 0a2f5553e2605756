"""A Leica SCN slide: its scanned area lies somewhere on a larger canvas, as OpenSlide's bounds say."""

import numpy as np
import tifffile

NANOMETRES = 500
"""Of a pixel's side: 0.5 µm."""
XML = """<?xml version="1.0"?>
<scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01" uuid="urn:uuid:00000000-0000-0000-0000-000000000001">
<collection name="c" uuid="urn:uuid:00000000-0000-0000-0000-000000000002" sizeX="{W}" sizeY="{H}"><barcode></barcode>
{macro}{area}</collection></scn>"""
IMAGE = """<image name="i{number}" uuid="urn:uuid:00000000-0000-0000-0000-00000000000{number}">
<creationDate>2020-01-01T00:00:00.0Z</creationDate><device model="M" version="1"/>
<pixels sizeX="{w}" sizeY="{h}"><dimension sizeX="{w}" sizeY="{h}" r="0" ifd="{ifd}"/></pixels>
<view sizeX="{width}" sizeY="{height}" offsetX="{x}" offsetY="{y}" spacingZ="0"/><scanSettings><objectiveSettings>
<objective>{objective}</objective></objectiveSettings><illuminationSettings>
<numericalAperture>{aperture}</numericalAperture><illuminationSource>brightfield</illuminationSource>
</illuminationSettings></scanSettings></image>
"""


def write_scn(path, image, corner, canvas):
    """Write the scanned area (h, w, 3) at x, y of a canvas of (width, height) pixels, without its surroundings."""
    (h, w, _), (x, y), (W, H) = image.shape, corner, canvas
    sizes = [value * NANOMETRES for value in (w, h, x, y, W, H)]
    width, height, left, top, whole_width, whole_height = sizes
    macro = IMAGE.format(
        number=3, ifd=0, w=64, h=64, width=whole_width, height=whole_height, x=0, y=0, objective=0.6, aperture=0.01
    )
    area = IMAGE.format(
        number=4, ifd=1, w=w, h=h, width=width, height=height, x=left, y=top, objective=20, aperture=0.4
    )
    xml = XML.format(W=whole_width, H=whole_height, macro=macro, area=area)
    options = {"photometric": "rgb", "tile": (64, 64), "compression": "zlib", "metadata": None, "software": ""}
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        file.write(np.full((64, 64, 3), 240, np.uint8), description=xml, **options)
        file.write(image, **options, resolution=(1e7 / NANOMETRES,) * 2, resolutionunit="CENTIMETER")
    return path
