import numpy as np
import pytest
import tifffile
from PIL import Image

from stedm.errors import UserError
from stedm.slides.annotations import read_annotation

SIZE = (100, 80)


def test_instances_become_classes(tmp_path, classes, annotations, expected):
    values = np.zeros((80, 100), np.uint16)
    values[10:20, 30:50] = 1
    values[40:50, 60:70] = 40_000
    Image.fromarray(values).save(tmp_path / "a.png")
    annotation = read_annotation(tmp_path / "a.png", classes, annotations, SIZE)
    wanted = expected((80, 100), (0, 0, 0, 100, 80), (1, 30, 10, 50, 20), (1, 60, 40, 70, 50))
    np.testing.assert_array_equal(annotation.rasterise(0, 0, 100, 80, 1), wanted)
    np.testing.assert_array_equal(annotation.rasterise(20, 0, 20, 20, 2), wanted[1:41:2, 21:61:2])
    assert annotation.area == 8000
    assert annotation.notes == []


def test_palettes_are_read_by_their_numbers_and_unknown_values_are_not_annotated(
    tmp_path, classes, annotations, expected
):
    image = Image.new("P", SIZE, 1)
    image.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 9, 9, 9])
    image.paste(3, (0, 0, 10, 8))
    image.save(tmp_path / "a.png")
    classes = [
        item.model_copy(update={"mask_values": values}) for item, values in zip(classes, (["2"], ["1"]), strict=True)
    ]
    annotation = read_annotation(tmp_path / "a.png", classes, annotations, SIZE)
    wanted = expected((80, 100), (1, 0, 0, 100, 80), (255, 0, 0, 10, 8))
    np.testing.assert_array_equal(annotation.rasterise(0, 0, 100, 80, 1), wanted)
    assert annotation.notes == ["values that belong to no class (3): 80 of its pixels (1.0%) are not annotated"]
    assert annotation.bounds == (0, 0, 100, 80)


@pytest.mark.parametrize("height", [20, 21])
def test_masks_may_be_smaller_by_a_whole_number(tmp_path, classes, annotations, height, expected):
    values = np.zeros((height, 25), np.uint8)
    values[5, 10] = 7
    tifffile.imwrite(tmp_path / "a.tif", values)
    annotation = read_annotation(tmp_path / "a.tif", classes, annotations, SIZE)
    labels = annotation.rasterise(0, 0, 100, 80, 1)
    np.testing.assert_array_equal(labels, expected((80, 100), (0, 0, 0, 100, 80), (1, 40, 20, 44, 24)))
    assert (annotation.rasterise(-3, 200, 3, 3, 1) == 255).all()


def test_damaged_sizes_are_refused_before_they_are_decoded(tmp_path, classes, annotations):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((80, 100), np.uint8))
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+b") as file:
        file.pages[0].tags["ImageLength"].overwrite(2_000_000_000)
    with pytest.raises(UserError, match=r"a\.tif: cannot be read as a mask \(it has 200,000,000,000 values"):
        read_annotation(tmp_path / "a.tif", classes, annotations, SIZE)


def test_masks_may_be_smaller_by_any_factor(tmp_path, classes, annotations):
    """A mask at 1.5 times the slide's resolution, its last column cut off, as levels of pyramids are."""
    values = np.zeros((53, 66), np.uint8)
    values[20:30, 10:40] = 1
    tifffile.imwrite(tmp_path / "a.tif", values)
    annotation = read_annotation(tmp_path / "a.tif", classes, annotations, SIZE)
    assert annotation.bounds == pytest.approx((0, 0, 100, 80), abs=0.5)
    tumour = annotation.rasterise(0, 0, 100, 80, 1) == 1
    rows, columns = np.flatnonzero(tumour.any(1)), np.flatnonzero(tumour.any(0))
    assert (rows[0], rows[-1] + 1, columns[0], columns[-1] + 1) == pytest.approx((30, 45, 15, 60), abs=1)


def test_palettes_of_tiffs_are_read_by_their_numbers(tmp_path, classes, annotations):
    image = Image.new("P", SIZE, 0)
    image.putpalette([9, 9, 9, 0, 0, 255])
    image.paste(1, (0, 0, 50, 80))
    image.save(tmp_path / "a.tif")
    labels = read_annotation(tmp_path / "a.tif", classes, annotations, SIZE).rasterise(0, 0, 100, 80, 1)
    assert (labels[:, :50] == 1).all()
    assert (labels[:, 50:] == 0).all()


@pytest.mark.parametrize("mode", ["1", "I;16"])
def test_masks_of_one_bit_and_of_sixteen(tmp_path, classes, annotations, mode):
    Image.new(mode, SIZE, 1).save(tmp_path / "a.png")
    assert (read_annotation(tmp_path / "a.png", classes, annotations, SIZE).labels == 1).all()


def test_masks_of_another_size_are_refused(tmp_path, classes, annotations):
    for shape in ((80, 99), (100, 80), (53, 60), (20, 30), (160, 200)):
        tifffile.imwrite(tmp_path / "a.tif", np.zeros(shape, np.uint8))
        with pytest.raises(UserError, match=rf"the mask is {shape[1]} × {shape[0]} px, the slide 100 × 80"):
            read_annotation(tmp_path / "a.tif", classes, annotations, SIZE)


def test_masks_without_any_known_value_are_refused(tmp_path, classes, annotations):
    Image.new("L", SIZE, 7).save(tmp_path / "a.png")
    classes = [item.model_copy(update={"mask_values": []}) for item in classes]
    with pytest.raises(UserError, match=r"none of its values \(7\) is a class.*mask_values"):
        read_annotation(tmp_path / "a.png", classes, annotations, SIZE)


def test_pictures_are_no_masks_but_grey_ones_saved_as_colour_are(tmp_path, classes, annotations):
    Image.new("RGB", SIZE, (1, 2, 3)).save(tmp_path / "a.png")
    with pytest.raises(UserError, match="one channel of whole numbers"):
        read_annotation(tmp_path / "a.png", classes, annotations, SIZE)
    Image.new("RGB", SIZE, (3, 3, 3)).save(tmp_path / "a.png")
    assert read_annotation(tmp_path / "a.png", classes, annotations, SIZE).area == 8000
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((80, 100), np.float32))
    with pytest.raises(UserError, match="float32"):
        read_annotation(tmp_path / "a.tif", classes, annotations, SIZE)


def test_masks_cut_short_are_refused(tmp_path, classes, annotations):
    noise = np.random.default_rng(0).integers(0, 9, (80, 100)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", noise, compression="zlib", tile=(16, 16))
    Image.fromarray(noise).save(tmp_path / "b.png")
    for name in ("a.tif", "b.png"):
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content[: len(content) * 6 // 10])
        with pytest.raises(UserError, match=rf"{name}: cannot be read as a mask"):
            read_annotation(tmp_path / name, classes, annotations, SIZE)


HALF = np.repeat(np.array([[1, 0]], np.uint8), [50, 50], axis=1).repeat(80, axis=0)


@pytest.mark.parametrize(
    "values",
    [
        HALF[:, :, None],
        HALF[None],
        HALF[None, None, :, :, None],
        np.stack([HALF] * 2),
        np.stack([HALF] * 7),
    ],
    ids=["h w 1", "1 h w", "1 1 h w 1", "two pages", "seven pages"],
)
@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"tile": (16, 16)}])
def test_masks_may_have_axes_of_one_and_pages_that_are_alike(tmp_path, classes, annotations, values, options):
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="minisblack", **options)
    labels = read_annotation(tmp_path / "a.tif", classes, annotations, SIZE).rasterise(0, 0, 100, 80, 1)
    np.testing.assert_array_equal(labels, HALF)


@pytest.mark.parametrize("options", [{}, {"ome": True}, {"imagej": True}])
def test_masks_of_pages_that_differ_are_refused(tmp_path, classes, annotations, options):
    tifffile.imwrite(tmp_path / "a.tif", np.stack([HALF, 1 - HALF]), photometric="minisblack", **options)
    with pytest.raises(UserError, match=r"a\.tif: holds 2 .*not one image; .*save the"):
        read_annotation(tmp_path / "a.tif", classes, annotations, SIZE)


def test_masks_whose_pages_form_a_circle_are_refused(tmp_path, classes, annotations):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.stack([HALF, HALF]), photometric="minisblack", metadata=None)
    with tifffile.TiffFile(path) as file:
        first, last = file.pages[0].offset, file.pages[1].offset
    content = bytearray(path.read_bytes())
    entries = int.from_bytes(content[last : last + 2], "little")
    end = last + 2 + 12 * entries  # where a page says which comes after it
    content[end : end + 4] = first.to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"a\.tif: .*pages form a circle"):
        read_annotation(path, classes, annotations, SIZE)


def test_the_classes_of_a_mask_are_those_of_its_values(tmp_path, classes, annotations):
    Image.fromarray(HALF * 0).save(tmp_path / "a.png")
    assert read_annotation(tmp_path / "a.png", classes, annotations, SIZE).present == {0}
    Image.fromarray(HALF).save(tmp_path / "a.png")
    assert read_annotation(tmp_path / "a.png", classes, annotations, SIZE).present == {0, 1}
