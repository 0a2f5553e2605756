import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask
from scipy import ndimage

from stedm.config import Annotations, TissueClass
from stedm.errors import UserError
from stedm.slides.annotations import read_annotation
from stedm.slides.annotations.coco import runs_of

SIZE = (100, 80)
CATEGORIES = [{"id": 1, "name": "Dermis", "supercategory": "Tissue"}, {"id": 7, "name": "Melanoma"}]
CLASSES = [
    TissueClass(name="dermis", color="#3f7fbf", annotations=["Dermis"]),
    TissueClass(name="tumour", color="#c83232", annotations=["Melanoma"]),
]


def square(left, upper, right, lower):
    return [left, upper, right, upper, right, lower, left, lower, left, upper]


@pytest.fixture
def read(tmp_path):
    def read_coco(*segmentations, image="Melanoma_01_1.svs", images=None, **options):
        """Segmentations as (image_id, category_id, segmentation)."""
        data = {
            "info": {"description": "CATCH"},
            "images": images
            or [
                {"license": 1, "file_name": "Melanoma_01_1.svs", "id": 1, "width": 100, "height": 80},
                {"license": 1, "file_name": "slides\\Melanoma_02_1.svs", "id": 2, "width": 100, "height": 80},
            ],
            "annotations": [
                {"id": count, "iscrowd": 0, "image_id": number, "category_id": category, "segmentation": segmentation}
                for count, (number, category, segmentation) in enumerate(segmentations, start=1)
            ],
            "categories": CATEGORIES,
        }
        (tmp_path / "a.json").write_text(json.dumps(data))
        return read_annotation(tmp_path / "a.json", CLASSES, Annotations(**options), SIZE, image)

    return read_coco


def test_catch_has_flat_lists_and_nested_polygons(read, expected):
    outer, inner, innermost = square(10, 10, 70, 70), square(20, 20, 60, 60), square(30, 30, 40, 40)
    wanted = expected((80, 100), (0, 10, 10, 70, 70), (1, 20, 20, 60, 60), (0, 30, 30, 40, 40))
    for order in itertools.permutations([(1, 1, outer), (1, 7, inner), (1, 1, innermost)]):
        result = read(*order)
        np.testing.assert_array_equal(result.rasterise(0, 0, 100, 80, 1), wanted)
    assert result.format == "coco"


def test_the_slide_is_found_by_its_file_name(read, expected):
    items = [(1, 1, [square(10, 10, 20, 20)]), (2, 7, [square(30, 30, 50, 50), square(60, 60, 70, 70)])]
    for image in ("Melanoma_02_1.svs", "Melanoma_02_1.tif"):
        labels = read(*items, image=image).rasterise(0, 0, 100, 80, 1)
        np.testing.assert_array_equal(labels, expected((80, 100), (1, 30, 30, 50, 50), (1, 60, 60, 70, 70)))
    for image in ("Melanoma_03_1.svs", ""):
        with pytest.raises(UserError, match=r"a\.json: no image has the file name .*Melanoma_01_1\.svs.*file_name"):
            read(*items, image=image)
    assert "no shape" in read(image="Melanoma_02_1.svs").notes[0]


def test_images_of_another_size_and_twice_are_refused(read):
    one = {"file_name": "Melanoma_01_1.svs", "id": 1, "width": 50, "height": 40}
    with pytest.raises(UserError, match=r"is 50 × 40 px in the file, the slide 100 × 80"):
        read(images=[one])
    with pytest.raises(UserError, match="2 images have the file name"):
        read(images=[one, one | {"id": 2}])


@pytest.mark.parametrize("compressed", [True, False])
def test_run_lengths_are_the_mask_that_pycocotools_encoded(read, compressed):
    rng = np.random.default_rng(3)
    mask = ndimage.gaussian_filter(rng.standard_normal((80, 100)), 3) > 0.05  # blobs with holes, and islands in them
    encoded = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    if compressed:
        encoded["counts"] = encoded["counts"].decode()
    else:
        runs = [(value, len(list(run))) for value, run in itertools.groupby(mask.ravel(order="F").tolist())]
        encoded["counts"] = [0] * int(runs[0][0]) + [length for _, length in runs]
    result = read((1, 7, encoded))
    np.testing.assert_array_equal(result.rasterise(0, 0, 100, 80, 1) == 1, mask)
    assert result.area == mask.sum()


def test_lines_points_and_empty_segmentations_are_counted(read):
    result = read((1, 1, [[1, 2, 3, 4]]), (1, 1, [[1, 2]]), (1, 1, []), (1, 1, None), (1, 1, square(1, 1, 5, 5)))
    assert result.area == 16
    assert result.notes == [
        "not labelled: 1 × LineString",
        "not labelled: 1 × Point",
        "not labelled: 2 × shape without geometry",
    ]


@pytest.mark.parametrize(
    "segmentation",
    [
        [1, 2, 3],
        [[1, 2, 3, 4, 5, float("nan")]],
        [[1, 2, 3, 4, 5, None]],
        [["a"]],
        [[1, 2, 3, 4, 5, 10**400]],
        [1, [2]],
        "no",
        {"counts": [1, 2]},
        {"counts": [8000], "size": [100, 80]},
        {"counts": [8000, 1], "size": [80, 100]},
        {"counts": [-1, 8001], "size": [80, 100]},
        {"counts": [2**40], "size": [80, 100]},
        {"counts": ["8000"], "size": [80, 100]},
        {"counts": None, "size": [80, 100]},
        {"counts": "\u00e9", "size": [80, 100]},
        {"counts": "ooooooooooooooo", "size": [80, 100]},
        {"counts": "0o", "size": [80, 100]},
        {"counts": "ooooo1" * 50, "size": [80, 100]},
        {"counts": [], "size": 3},
    ],
)
def test_broken_segmentations_are_named(read, segmentation):
    with pytest.raises(UserError, match=r"a\.json, annotation 1 of image 1: "):
        read((1, 1, segmentation))


@given(counts=st.text([chr(code) for code in range(48, 112)], min_size=1, max_size=40))
@settings(max_examples=300, deadline=None)
def test_any_compressed_run_lengths_are_decoded_or_refused(counts):
    try:
        runs = runs_of({"counts": counts, "size": [80, 100]}, SIZE)
    except ValueError:
        return
    assert ((runs[:, 0] < runs[:, 1]) & (runs[:, 0] >= 0) & (runs[:, 1] <= 8000)).all()


def test_unknown_categories_are_unknown_classes(read):
    items = [(1, 9, square(1, 1, 5, 5)), (1, 9, square(6, 6, 9, 9)), (1, None, square(6, 6, 9, 9))]
    with pytest.raises(UserError, match=r"unknown classes: 'category 9' \(2\), 'Unclassified' \(1\)"):
        read(*items)
    ignored = read(*items, (1, 7, square(20, 20, 30, 30)), ignore=["category 9", "Unclassified"])
    assert ignored.area == 100


@pytest.mark.parametrize(("image", "category"), [("1", "7"), (1.0, 7.0), (1, "7")])
def test_ids_may_be_text_or_numbers(read, image, category):
    """pandas makes 7.0 of 7 where a value is missing."""
    assert read((image, category, square(10, 10, 20, 20))).present == {1}


def test_annotations_of_images_that_the_file_does_not_list_are_counted(read):
    lost, good = [(9, 7, square(1, 1, 5, 5)), (None, 7, square(1, 1, 5, 5))], (1, 7, square(10, 10, 20, 20))
    kind = "2 × annotation of an image that the file does not list"
    assert read(good, *lost).notes == [f"not labelled: {kind}"]
    with pytest.raises(UserError, match=rf"nothing in it labels a pixel \({kind}\)"):
        read(*lost, whole_slide=True, fill="dermis")
    assert "has no shape" in read((2, 7, square(1, 1, 5, 5))).notes[0]  # of another slide: nothing is lost


def test_ids_that_two_have_are_refused(read, tmp_path):
    read((1, 7, square(10, 10, 20, 20)))
    data = json.loads((tmp_path / "a.json").read_text())
    for key in ("images", "categories"):
        data[key][1]["id"] = 1
        (tmp_path / "b.json").write_text(json.dumps(data))
        with pytest.raises(UserError, match=rf"b\.json: two of its `{key}` have the id 1; give each its own"):
            read_annotation(tmp_path / "b.json", CLASSES, Annotations(), SIZE, "Melanoma_01_1.svs")
        data[key][1]["id"] = 2


def test_file_names_are_compared_in_composed_form(read):
    images = [{"file_name": "e\u0301.svs", "id": 1}]
    assert read((1, 7, square(10, 10, 20, 20)), images=images, image="\u00e9.tif").present == {1}


@pytest.mark.parametrize("key", ["images", "annotations", "categories"])
@pytest.mark.parametrize("value", [None, 3, {}, [3]])
def test_files_that_are_not_such_json_are_refused(tmp_path, key, value):
    data = {"images": [], "annotations": [], "categories": []} | {key: value}
    (tmp_path / "a.json").write_text(json.dumps(data))
    with pytest.raises(UserError, match=rf"a\.json: is COCO, but `{key}` is not a list of objects"):
        read_annotation(tmp_path / "a.json", [], Annotations(), SIZE, "a.svs")
