"""Pixels of another kind than 8 bits of red, green and blue: right, or refused before the first is read."""

import cv2
import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from stedm.config import Patches
from stedm.errors import UserError
from stedm.sheet import Slide
from stedm.slides import UnreadableSlide, open_slide
from stedm.slides.annotations.mask import read_values

COLOURS = np.array([(200, 60, 90), (70, 180, 90), (60, 80, 190), (210, 120, 170)], np.uint8)
IMAGE = COLOURS[np.indices((128, 192)).sum(0) // 80]
GREY = IMAGE[..., 0]
CHANNELS = np.ascontiguousarray(np.moveaxis(IMAGE, 2, 0))
PLANES = np.stack([IMAGE, IMAGE[::-1]])
RGB = {"photometric": "rgb"}
ALPHA = np.tile(np.repeat([255, 128, 0], 64).astype(np.uint8), (128, 1))
ON_WHITE = np.rint(255 + (IMAGE - 255.0) * (ALPHA[..., None] / 255))
READ_AS_A_WHOLE = "tifffile"
layouts = pytest.mark.parametrize("layout", [{}, {"tile": (64, 64)}], ids=["striped", "tiled"])


def read(path):
    with open_slide(Slide("s1", "p1", path)) as opened:
        return opened.read_region(0, 0, *opened.dimensions), opened


def write(folder, values, **options):
    tifffile.imwrite(folder / "a.tif", values, **{"compression": "zlib", "metadata": None, **options})
    return folder / "a.tif"


def several(folder, *pages, **options):
    with tifffile.TiffWriter(folder / "a.tif") as file:
        for values, more in pages:
            file.write(
                np.ascontiguousarray(values), **{**RGB, "compression": "zlib", "metadata": None, **options, **more}
            )
    return folder / "a.tif"


@layouts
@pytest.mark.parametrize("values", [IMAGE * np.uint16(16), IMAGE.astype(np.uint16), IMAGE * np.uint16(257)])
def test_sixteen_bits_are_refused_where_the_file_does_not_say_how_bright_white_is(tmp_path, layout, values):
    for name in ("a.tif", "b.tif"):
        grey = name == "b.tif"
        kind = {"photometric": "minisblack"} if grey else RGB
        tifffile.imwrite(tmp_path / name, values[..., 0] if grey else values, **kind, **layout)
        with pytest.raises(UnreadableSlide, match=rf"{name}.*16 bits.*MaxSampleValue.*save it as RGB of 8 bits"):
            read(tmp_path / name)


@layouts
def test_sixteen_bits_are_scaled_by_the_files_own_maximum(tmp_path, layout):
    deep = IMAGE.astype(np.uint16) * 16
    for maximum in (255 * 16, 4095, 65_535):
        path = write(tmp_path, deep, **RGB, **layout, extratags=[(281, "H", 3, (maximum,) * 3, True)])
        np.testing.assert_array_equal(read(path)[0], np.rint(deep * (255 / maximum)))
    ome = {"axes": "YXS", "SignificantBits": 12}
    path = write(tmp_path, deep, ome=True, **RGB, **layout, metadata=ome)
    np.testing.assert_array_equal(read(path)[0], np.rint(deep * (255 / 4095)))
    path = write(tmp_path, deep, **RGB, **layout, extratags=[(281, "H", 3, (1000,) * 3, True)])
    with pytest.raises(UnreadableSlide, match="values up to 3360, above the maximum of 1000"):
        read(path)


def test_a_scanners_slide_of_sixteen_bits_is_refused(tmp_path):
    text = "Aperio Image Library v11\n192x128 (64x64) |AppMag = 20|MPP = 0.5"
    path = write(tmp_path, IMAGE.astype(np.uint16), **RGB, tile=(64, 64), description=text)
    with pytest.raises(UnreadableSlide, match=r"a\.tif.*16 bits a channel.*save it as RGB"):
        read(path)


@layouts
def test_fewer_bits_than_eight_are_all_used(tmp_path, layout):
    grey = np.repeat(((GREY > 100) * np.uint8(255))[..., None], 3, 2)
    np.testing.assert_array_equal(
        read(write(tmp_path, GREY > 100, photometric="minisblack", compression=None, **layout))[0], grey
    )


@pytest.mark.parametrize(
    ("bits", "ending"), [(16, "png"), (16, "jp2"), (12, "jp2")], ids=["PNG", "JPEG 2000", "JPEG 2000, 12 bits"]
)
def test_ordinary_images_of_more_bits_are_refused(tmp_path, bits, ending):
    deep = IMAGE.astype(np.uint16) * 16
    for name, values in (("colour", deep), ("grey", np.ascontiguousarray(deep[..., 0]))):
        path = tmp_path / f"{name}.{ending}"
        if ending == "png":
            cv2.imwrite(str(path), values)
        else:
            path.write_bytes(imagecodecs.jpeg2k_encode(values, bitspersample=bits, reversible=True, level=0))
        with pytest.raises(UnreadableSlide, match=rf"{path.name}.*{bits} bits a channel.*save it as RGB of 8 bits"):
            read(path)


@layouts
@pytest.mark.parametrize("axes", ["CYX", "ZYXS", "TYXS"])
def test_channels_planes_and_times_of_ome_are_refused(tmp_path, layout, axes):
    values = CHANNELS if axes == "CYX" else PLANES
    kind = {"photometric": "minisblack"} if axes == "CYX" else RGB
    path = write(tmp_path, values, ome=True, **kind, **layout, metadata={"axes": axes})
    what = {"CYX": "3 channels", "ZYXS": "2 focal planes", "TYXS": "2 points in time"}[axes]
    with pytest.raises(UnreadableSlide, match=rf"holds {what} of 192 × 128 px, not one image; save"):
        read(path)


def test_stacks_of_imagej_are_refused_in_several_pages_and_in_one(tmp_path):
    for values, axes, what in ((CHANNELS, "CYX", "3 channels"), (PLANES, "ZYXS", "2 focal planes")):
        tifffile.imwrite(tmp_path / "a.tif", values, imagej=True, metadata={"axes": axes})
        with pytest.raises(UnreadableSlide, match=rf"holds {what}"):
            read(tmp_path / "a.tif")
        with tifffile.TiffFile(tmp_path / "a.tif") as file:  # ImageJ writes stacks of 4 GB behind one page
            place = file.pages[0].offset + 2 + 12 * len(file.pages[0].tags)
        content = bytearray((tmp_path / "a.tif").read_bytes())
        content[place : place + 4] = bytes(4)
        (tmp_path / "a.tif").write_bytes(content)
        with pytest.raises(UnreadableSlide, match=rf"holds {what}"):
            read(tmp_path / "a.tif")


@layouts
def test_three_samples_of_grey_are_no_colours(tmp_path, layout):
    with pytest.raises(
        UnreadableSlide, match=r"3 × 8 bits of the kind MINISBLACK.*not read as colours.*save it as RGB"
    ):
        read(write(tmp_path, IMAGE, photometric="minisblack", planarconfig="contig", **layout))


@layouts
def test_several_images_and_a_thumbnail_that_stands_first_are_refused(tmp_path, layout):
    small = {} if not layout else {"tile": (32, 32)}
    for pages in (
        [(IMAGE, layout), (IMAGE[::-1], layout)],
        [(IMAGE, layout), (IMAGE[:100, :150], layout)],  # of the same shape, but no level of it
        [(IMAGE[::4, ::4], small), (IMAGE, layout)],
        [(IMAGE[::4, ::4], {**small, "subfiletype": 1}), (IMAGE, layout)],
    ):
        with pytest.raises(UnreadableSlide, match=r"holds (2|several) images.*save the one that counts"):
            read(several(tmp_path, *pages))


@layouts
def test_levels_are_no_images_of_their_own_and_a_label_is_noted(tmp_path, layout):
    half = IMAGE[::2, ::2]
    for more in ({"subfiletype": 1}, {}):
        image, opened = read(several(tmp_path, (IMAGE, {}), (half, more), (half[::2, ::2], more), **layout))
        np.testing.assert_array_equal(image, IMAGE)
        assert opened.notes == []
    image, opened = read(several(tmp_path, (IMAGE, layout), (IMAGE[:64, :64], layout)))
    np.testing.assert_array_equal(image, IMAGE)
    assert opened.notes == ["holds more images (64 × 64 px), which are not read: a label or an overview?"]


def test_an_overview_that_openslide_takes_for_a_level_is_refused(tmp_path):
    overview = np.ascontiguousarray(IMAGE[:32, :64])
    with pytest.raises(UnreadableSlide, match="192 × 128 and 64 × 32 px"):
        read(several(tmp_path, (IMAGE, {}), (overview, {"subfiletype": 1}), tile=(32, 32)))


@pytest.mark.parametrize("ending", ["webp", "png"])
def test_animations_are_refused(tmp_path, ending):
    frames = [Image.fromarray(image) for image in PLANES]
    frames[0].save(tmp_path / f"a.{ending}", save_all=True, append_images=frames[1:])
    with pytest.raises(UnreadableSlide, match=rf"a\.{ending}.*holds 2 images; save the one"):
        read(tmp_path / f"a.{ending}")


@layouts
@pytest.mark.parametrize("reader", ["as stored", READ_AS_A_WHOLE])
def test_transparency_shows_white_whether_colours_are_multiplied_or_not(tmp_path, layout, reader):
    codec = "zlib" if reader == "as stored" else "lzma"  # which OpenSlide does not have
    multiplied = np.rint(IMAGE * (ALPHA[..., None] / 255)).astype(np.uint8)
    for colours, kind in ((IMAGE, "unassalpha"), (multiplied, "assocalpha")):
        values = np.dstack([colours, ALPHA])
        image, opened = read(write(tmp_path, values, **RGB, **layout, extrasamples=[kind], compression=codec))
        assert np.abs(image - ON_WHITE).max() <= 2
        assert opened.notes == ["has a channel of transparency: what is transparent is read as white"]
        assert (opened.reader == READ_AS_A_WHOLE) == (codec == "lzma" or not layout)


@layouts
def test_a_fourth_channel_that_is_not_called_transparency_is_refused(tmp_path, layout):
    values = np.dstack([IMAGE, GREY])
    with pytest.raises(UnreadableSlide, match="does not say that the last is transparency; save it without"):
        read(write(tmp_path, values, **RGB, **layout, extrasamples=["unspecified"]))


@layouts
@pytest.mark.parametrize("kind", ["float32", "int8", "uint32", "cielab", "icclab"])
def test_measured_values_and_other_colour_spaces_are_refused(tmp_path, layout, kind):
    if kind.endswith("lab"):
        path = write(tmp_path, cv2.cvtColor(IMAGE, cv2.COLOR_RGB2LAB), photometric=kind, **layout)
    else:
        path = write(tmp_path, (IMAGE // 2).astype(kind), **RGB, **layout)
    with pytest.raises(UnreadableSlide, match=rf"a\.tif.*{kind.upper() if 'lab' in kind else kind}.*save it as RGB"):
        read(path)


@layouts
@pytest.mark.parametrize("compression", ["zlib", "lzma"])
def test_grey_inverted_planar_palette_and_cmyk_become_rgb(tmp_path, layout, compression):
    grey = np.repeat(GREY[..., None], 3, 2)
    palette = np.zeros((3, 256), np.uint16)
    palette[:, :4] = COLOURS.T.astype(np.uint16) * 257
    numbers = (np.indices((128, 192)).sum(0) // 80).astype(np.uint8)
    for values, expected, options in (
        (GREY, grey, {"photometric": "minisblack"}),
        (255 - GREY, grey, {"photometric": "miniswhite"}),
        (CHANNELS, IMAGE, {**RGB, "planarconfig": "separate"}),
        (numbers, IMAGE, {"photometric": "palette", "colormap": palette}),
        (np.asarray(Image.fromarray(IMAGE).convert("CMYK")), IMAGE, {"photometric": "separated"}),
    ):
        image, _ = read(write(tmp_path, values, **options, **layout, compression=compression))
        assert np.abs(image.astype(int) - expected).max() <= 1, options


@layouts
@pytest.mark.parametrize("compression", ["webp", "jpegxl", "jpeg2000", "png", "lzma", "lerc"])
def test_compressions_that_openslide_does_not_have_are_read_where_the_image_is_not_too_large(
    tmp_path, layout, compression
):
    lossless = {"lossless": True} if compression == "webp" else None
    path = write(tmp_path, IMAGE, **RGB, **layout, compression=compression, compressionargs=lossless)
    image, opened = read(path)
    assert opened.reader == READ_AS_A_WHOLE
    assert np.abs(image.astype(int) - IMAGE).mean() < 4
    with pytest.raises(
        UnreadableSlide, match=rf"(?i)a\.tif.*{compression}.*too many to decode as a whole.*vips tiffsave"
    ):
        open_slide(Slide("s1", "p1", path), max_megapixels=0.001)


@layouts
@pytest.mark.parametrize(("size", "unit"), [(0.25, "µm"), (250.0, "nm"), (0.00025, "mm")])
def test_physical_sizes_of_ome_are_the_resolution(tmp_path, layout, size, unit):
    sizes = {"PhysicalSizeX": size, "PhysicalSizeY": size, "PhysicalSizeXUnit": unit, "PhysicalSizeYUnit": unit}
    print_resolution = {"resolution": (300, 300), "resolutionunit": "INCH"}
    path = write(tmp_path, IMAGE, ome=True, **RGB, **layout, metadata={"axes": "YXS", **sizes}, **print_resolution)
    with open_slide(Slide("s1", "p1", path), Patches(size=16, mpp=0.5)) as opened:
        assert (opened.mpp, opened.mpp_source) == (pytest.approx(0.25), "slide")
        assert opened.downsample == pytest.approx(2)


@pytest.mark.parametrize(
    ("unit", "per_unit", "mpp"), [("micron", 4, 0.25), ("\\u00B5m", 4, 0.25), ("cm", 40_000, 0.25), ("pixel", 4, None)]
)
def test_imagejs_unit_is_that_of_its_resolution(tmp_path, unit, per_unit, mpp):
    tifffile.imwrite(tmp_path / "a.tif", IMAGE, imagej=True, resolution=(per_unit, per_unit), metadata={"unit": unit})
    assert read(tmp_path / "a.tif")[1].mpp == mpp


def test_files_cut_short_are_no_smaller_images(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (128, 192, 3), dtype=np.uint8)
    whole = several(tmp_path, (noise, {}), (noise[::2, ::2], {}), (noise[::4, ::4], {})).read_bytes()
    for share in (0.1, 0.5, 0.8, 0.95):
        (tmp_path / "cut.tif").write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(UnreadableSlide, match=r"cut\.tif"):
            read(tmp_path / "cut.tif")


def test_masks_of_one_channel_are_read_and_those_of_pages_that_differ_refused(tmp_path):
    labels = (GREY > 100).astype(np.uint8)
    kind = {"photometric": "minisblack"}
    path = write(tmp_path, labels[..., None], **kind, metadata={})
    np.testing.assert_array_equal(read_values(path, most=labels.size), labels)
    np.testing.assert_array_equal(
        read_values(write(tmp_path, np.stack([labels] * 2), **kind), most=labels.size), labels
    )
    for path in (
        write(tmp_path, np.stack([labels, 1 - labels]), **kind),
        write(tmp_path, np.stack([labels, 1 - labels]), **kind, compression=None, metadata={}),
        several(tmp_path, (labels[::4, ::4], {}), (labels, {}), **kind),  # a thumbnail first
    ):
        with pytest.raises(UserError, match=r"a\.tif: holds (2|several) images.*save the one that counts"):
            read_values(path, most=labels.size)
    pyramid = several(tmp_path, (labels, {}), (labels[::2, ::2], {"subfiletype": 1}), **kind)
    np.testing.assert_array_equal(read_values(pyramid, most=labels.size), labels)
    with pytest.raises(UserError, match="calls 0 white"):
        read_values(write(tmp_path, labels, photometric="miniswhite"), most=labels.size)
