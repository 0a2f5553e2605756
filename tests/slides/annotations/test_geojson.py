import itertools
import json

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.path import Path as Outline
from shapely.geometry import LineString, MultiPoint, MultiPolygon, Point, Polygon, box, mapping

from stedm.config import Annotations, TissueClass
from stedm.errors import UserError
from stedm.slides.annotations import read_annotation
from stedm.slides.annotations.lost import without_pixel

SIZE = (100, 80)


@pytest.fixture
def read(tmp_path, geojson, classes):
    """Read shapes (class, box or geometry) back as an annotation of a 100 × 80 px slide."""

    def read_shapes(*shapes, dimensions=SIZE, **options):
        path = geojson(tmp_path / "a.geojson", *shapes)
        return read_annotation(path, classes, Annotations(**options), dimensions)

    return read_shapes


def test_a_square_labels_its_pixels_and_no_others(read, expected):
    annotation = read(("Tumor", (20, 10, 50, 40)))
    np.testing.assert_array_equal(annotation.rasterise(0, 0, 100, 80, 1), expected((80, 100), (1, 20, 10, 50, 40)))
    np.testing.assert_array_equal(annotation.rasterise(10, 4, 20, 20, 2), expected((20, 20), (1, 5, 3, 20, 18)))
    assert annotation.area == 900
    assert annotation.bounds == (20, 10, 50, 40)


def test_labels_are_those_of_the_pixels_centres(read):
    rng = np.random.default_rng(1)
    angles = np.sort(rng.uniform(0, 2 * np.pi, 40))
    reach = rng.uniform(8, 38, 40)
    star = np.stack([50 + reach * np.cos(angles), 40 + reach * np.sin(angles)], 1)
    annotation = read(("Tumor", mapping(Polygon(star))))
    for x0, y0, downsample in ((0, 0, 1.0), (3, 5, 2.5), (11, 2, 0.7)):
        x, y = np.meshgrid(x0 + (np.arange(40) + 0.5) * downsample, y0 + (np.arange(32) + 0.5) * downsample)
        inside = Outline(star).contains_points(np.stack([x.ravel(), y.ravel()], 1)).reshape(32, 40)
        assert inside.any()
        np.testing.assert_array_equal(annotation.rasterise(x0, y0, 40, 32, downsample) == 1, inside)


def test_neighbours_leave_no_gap_and_do_not_overlap(read):
    annotation = read(("Tumor", (1, 1, 25, 79)), ("stroma", (25, 1, 49, 79)))  # centres lie on the edge between them
    labels = annotation.rasterise(0, 0, 24, 39, 2)
    np.testing.assert_array_equal(labels[1], [1] * 12 + [0] * 12)


def test_neighbours_along_a_diagonal_leave_no_gap_either(read):
    lower, upper = Polygon([(10, 10), (60, 60), (10, 60)]), Polygon([(10, 10), (60, 10), (60, 60)])
    labels = read(("Tumor", mapping(lower)), ("stroma", mapping(upper))).rasterise(10, 10, 50, 50, 1)
    np.testing.assert_array_equal(np.bincount(labels.ravel()), [25 * 49, 25 * 51])


def test_holes_and_parts(read, expected):
    holed = Polygon([(10, 10), (50, 10), (50, 50), (10, 50)], [[(20, 20), (40, 20), (40, 40), (20, 40)]])
    annotation = read(("Tumor", mapping(MultiPolygon([holed, box(60, 60, 70, 70)]))))
    wanted = expected((80, 100), (1, 10, 10, 50, 50), (255, 20, 20, 40, 40), (1, 60, 60, 70, 70))
    np.testing.assert_array_equal(annotation.rasterise(0, 0, 100, 80, 1), wanted)
    assert annotation.area == 1600 - 400 + 100


def test_empty_holes_are_no_holes(read):
    """GEOS 3.14 crashes on them."""
    outline = [[10, 10], [30, 10], [30, 30], [10, 30], [10, 10]]
    assert read(("Tumor", {"type": "Polygon", "coordinates": [outline, [], None]})).area == 400


def test_later_shapes_are_painted_over_earlier_ones(read, expected):
    first, second = ("stroma", (10, 10, 40, 40)), ("Tumor", (20, 20, 60, 60))
    over = expected((80, 100), (0, 10, 10, 40, 40), (1, 20, 20, 60, 60))
    under = expected((80, 100), (1, 20, 20, 60, 60), (0, 10, 10, 40, 40))
    np.testing.assert_array_equal(read(first, second).rasterise(0, 0, 100, 80, 1), over)
    np.testing.assert_array_equal(read(second, first).rasterise(0, 0, 100, 80, 1), under)


def test_regions_say_what_is_annotated(read, expected):
    shapes = [("Tumor", (30, 30, 90, 50)), ("Region*", (10, 10, 60, 60)), ("Ignore*", (35, 35, 40, 40))]
    filled = read(*shapes, fill="stroma")
    wanted = expected((80, 100), (0, 10, 10, 60, 60), (1, 30, 30, 60, 50), (255, 35, 35, 40, 40))
    np.testing.assert_array_equal(filled.rasterise(0, 0, 100, 80, 1), wanted)
    assert filled.area == (wanted != 255).sum()
    empty = read(*shapes)
    wanted = expected((80, 100), (1, 30, 30, 60, 50), (255, 35, 35, 40, 40))
    np.testing.assert_array_equal(empty.rasterise(0, 0, 100, 80, 1), wanted)
    assert empty.area == (wanted != 255).sum()


@pytest.mark.parametrize("tumours", [(), [("Tumor", (20, 10, 50, 40))]])
def test_a_whole_slide_is_annotated_where_no_region_says_otherwise(read, expected, tumours):
    everywhere = {"whole_slide": True, "fill": "stroma"}
    squares = [(0, 0, 0, 100, 80), *((1, *where) for _, where in tumours)]
    annotation = read(*tumours, **everywhere)
    np.testing.assert_array_equal(annotation.rasterise(0, 0, 100, 80, 1), expected((80, 100), *squares))
    assert annotation.area == 8000
    within = read(("Region", (10, 10, 30, 30)), *tumours, **everywhere)
    assert within.area == 400


def test_patterns_name_regions_and_ignored_classes(read, expected):
    options = {"regions": ["ROI ?"], "ignore": ["Unclassified", "*artefact"]}
    annotation = read(("ROI 1", (0, 0, 50, 50)), ("Pen artefact", (0, 0, 9, 9)), ("Tumor", (0, 0, 20, 20)), **options)
    np.testing.assert_array_equal(
        annotation.rasterise(0, 0, 100, 80, 1), expected((80, 100), (1, 0, 0, 20, 20), (255, 0, 0, 9, 9))
    )


@pytest.mark.parametrize(
    "properties",
    [
        {"classification": {"name": "Tumor", "colorRGB": -3670016}, "isLocked": False, "measurements": []},  # 0.2, 0.3
        {"objectType": "annotation", "classification": {"name": "Tumor", "color": [200, 0, 0]}},  # 0.4, 0.5
        {"objectType": "detection", "classification": {"names": ["Tumor"], "color": [200, 0, 0]}},  # 0.6
        {"objectType": "cell", "classification": {"names": ["Tumor", "Positive"]}},
        {"classification": {"name": "Tumor: Positive"}},
        {"classification": "Tumor"},
    ],
)
@pytest.mark.parametrize("container", ["feature", "list", "collection"])
def test_classifications_of_all_versions_of_qupath(tmp_path, classes, annotations, properties, container, expected):
    feature = {"type": "Feature", "geometry": mapping(box(10, 10, 20, 20)), "properties": properties}
    data = {"feature": feature, "list": [feature], "collection": {"type": "FeatureCollection", "features": [feature]}}
    (tmp_path / "a.json").write_text(json.dumps(data[container]))
    annotation = read_annotation(tmp_path / "a.json", classes, annotations, SIZE)
    np.testing.assert_array_equal(annotation.rasterise(0, 0, 100, 80, 1), expected((80, 100), (1, 10, 10, 20, 20)))


def test_unknown_classes_are_all_named_with_their_counts(read):
    with pytest.raises(UserError) as error:
        read(("Tumour", (0, 0, 9, 9)), ("Tumor", (0, 0, 9, 9)), ("Necrosis", (0, 0, 9, 9)), ("Tumour", (5, 5, 9, 9)))
    message = str(error.value)
    assert "a.geojson: unknown classes: 'Tumour' (2, #c80000), 'Necrosis' (1, #c80000)" in message
    assert "'Tumor'" in message
    assert "annotations.ignore" in message


def test_shapes_without_a_class_need_a_choice(tmp_path, classes, annotations):
    data = {"type": "Feature", "geometry": mapping(box(0, 0, 9, 9)), "properties": {"name": "polygon"}}
    (tmp_path / "a.json").write_text(json.dumps(data))
    with pytest.raises(UserError, match=r"'Unclassified' \(1\)"):
        read_annotation(tmp_path / "a.json", classes, annotations, SIZE)
    classes[1] = classes[1].model_copy(update={"annotations": ["Unclassified"]})
    assert read_annotation(tmp_path / "a.json", classes, annotations, SIZE).area == 81


@pytest.mark.parametrize("where", [(1000, 1000, 1010, 1010), (50, 50, 130, 70), (-20, 0, 10, 10), (0, 0, 50, 100)])
def test_wrong_coordinates_are_refused(read, where):
    with pytest.raises(UserError, match=r"a\.geojson: wrong coordinates: .* the slide is 100 × 80 px"):
        read(("Tumor", (10, 10, 20, 20)), ("Tumor", where))


def test_a_shape_may_slip_over_the_edge_by_a_few_pixels(read):
    labels = read(("Tumor", (-5, -5, 104, 84))).rasterise(-2, -2, 104, 84, 1)
    assert (labels == 1).all()


def test_points_and_lines_are_counted_and_passed_over(read):
    line, dots = LineString([(0, 0), (9, 9)]), MultiPoint([(1, 1), (2, 2), (3, 3)])
    annotation = read(
        ("Tumor", mapping(line)), ("Tumor", mapping(dots)), ("", mapping(Point(5, 5))), ("Tumor", (10, 10, 20, 20))
    )
    assert annotation.area == 100
    assert annotation.notes == [
        "not labelled: 1 × LineString",
        "not labelled: 4 × Point",
    ]


def circle(radius, turns=1):
    """Points of a line that goes round (50, 40) so often, in 64 steps each."""
    angles = np.arange(64 * turns + 1) * 2 * np.pi / 64
    return np.stack([50 + radius * np.cos(angles), 40 + radius * np.sin(angles)], 1).tolist()


def polygon(*rings):
    return {"type": "Polygon", "coordinates": [[*ring, ring[0]] for ring in rings]}


ROUND = 32 * np.sin(np.pi / 32)
"""Area of a regular polygon of 64 corners and radius 1."""


@pytest.mark.parametrize(
    ("rings", "area", "noted"),
    [
        ([circle(30, turns=2)], ROUND * 900, "feature 1: 5,646 to 2,823 px"),
        ([circle(30, turns=3)], ROUND * 900, "feature 1: 8,469 to 2,823 px"),
        ([circle(28) + circle(30)], ROUND * 900, "feature 1: 5,282 to 2,823 px"),
        ([circle(30), circle(10, turns=2)], ROUND * 800, "feature 1: 2,196 to 2,509 px"),
        ([circle(30) + circle(10)[::-1]], ROUND * 800, None),  # a hole along a bridge, as some programs write it
        ([[*circle(30), [80.01, 40.01], [79.99, 40.01]]], ROUND * 900, None),  # a hand that slips at the end
    ],
)
def test_outlines_that_go_round_twice_keep_their_area(read, rings, area, noted):
    annotation = read(("Tumor", polygon(*rings)))
    assert sum(item.polygon.area for item in annotation.shapes) == pytest.approx(area, rel=1e-3)
    assert (annotation.rasterise(0, 0, 100, 80, 1) == 1).sum() == pytest.approx(area, rel=0.02)
    if noted is None:
        assert annotation.notes == []
    else:
        assert f"1 × self-intersecting outline whose area changed by more than 1% ({noted})" in str(annotation.notes)


def windings(ring, x, y):
    """How often a ring goes round each point: its crossings of the half-line to the right, by their direction."""
    total = np.zeros(x.shape, int)
    for (x0, y0), (x1, y1) in itertools.pairwise([*ring, ring[0]]):
        side = (x1 - x0) * (y - y0) - (x - x0) * (y1 - y0)
        total += ((y0 <= y) & (y < y1) & (side > 0)).astype(int) - ((y1 <= y) & (y < y0) & (side < 0))
    return total


@given(ring=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=3, max_size=9))
@settings(max_examples=200, deadline=None)
def test_outlines_label_all_that_they_go_round(tmp_path_factory, ring):
    path = tmp_path_factory.getbasetemp() / "a.geojson"
    feature = {"type": "Feature", "geometry": polygon(ring), "properties": {"classification": "tumour"}}
    path.write_text(json.dumps(feature))
    y, x = np.mgrid[0:30, 0:30] + 0.5
    inside = windings(ring, x + 1e-6, y + 1.618e-6) != 0
    try:
        annotation = read_annotation(path, [TissueClass(name="tumour", color="#ff0000")], Annotations(), SIZE)
    except UserError as error:
        assert "nothing in it labels a pixel" in str(error)
        assert not inside.any()
    else:
        np.testing.assert_array_equal(annotation.rasterise(0, 0, 30, 30, 1) == 0, inside)


def test_holes_outside_their_outline_are_noted_and_are_no_shapes(read):
    annotation = read(("Tumor", polygon([[10, 10], [30, 10], [30, 30], [10, 30]], [[50, 50], [60, 50], [60, 60]])))
    assert annotation.area == 400
    assert "1 × hole outside its outline" in annotation.notes[0]


def test_outlines_that_cross_themselves_are_repaired(read):
    bow_tie = {"type": "Polygon", "coordinates": [[[10, 10], [30, 30], [30, 10], [10, 30], [10, 10]]]}
    annotation = read(("Tumor", bow_tie))
    assert annotation.area == pytest.approx(200)
    labels = annotation.rasterise(0, 0, 100, 80, 1)
    assert (labels[20, 10], labels[20, 12], labels[12, 20], labels[15, 28]) == (1, 1, 255, 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read as JSON"),
        ("[" * 100_000, "cannot be read as JSON"),
        ('{"images": []}', "is not GeoJSON"),
        ("3", "is not GeoJSON"),
        ('[{"type": "Feature"}, 3]', "is not GeoJSON"),
        ('[{"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [[[0, 0], [1, 1]]]}}]', "feature 1"),
        ('[{"type": "Feature", "geometry": {"type": "Polygon", "coordinates": "no"}}]', "feature 1"),
        ('[{"type": "Feature", "geometry": {"type": "Sphere"}}]', "feature 1"),
        ('[{"type":"Feature","geometry":{"type":"Polygon","coordinates":[[[0,0],[1e999,1],[1,1]]]}}]', "feature 1"),
        ('[{"type": "Feature", "geometry": null, "properties": 3}]', "feature 1"),
    ],
)
def test_broken_files_are_named(tmp_path, classes, annotations, text, message):
    (tmp_path / "a.geojson").write_text(text)
    with pytest.raises(UserError, match=rf"a\.geojson.*{message}"):
        read_annotation(tmp_path / "a.geojson", classes, annotations, SIZE)


JSON = st.recursive(
    st.none() | st.integers() | st.floats() | st.text(max_size=3), lambda inner: st.lists(inner, max_size=4)
)


@given(st.sampled_from(["Polygon", "MultiPolygon", "Point", "GeometryCollection"]), JSON)
@settings(max_examples=200, deadline=None)
def test_any_nonsense_for_coordinates_ends_in_our_own_error(tmp_path_factory, kind, coordinates):
    path = tmp_path_factory.mktemp("fuzz") / "a.geojson"
    feature = {"type": "Feature", "geometry": {"type": kind, "coordinates": coordinates}, "properties": {}}
    path.write_text(json.dumps(feature))
    try:
        annotation = read_annotation(path, [], Annotations(), SIZE)
    except UserError as error:
        assert "a.geojson" in str(error)
    else:
        assert annotation.area == 0


def test_polygons_of_collections_are_found(read):
    collection = shapely.geometrycollections([box(0, 0, 4, 4), LineString([(0, 0), (1, 1)])])
    annotation = read(("Tumor", mapping(shapely.geometrycollections([collection, Point(3, 3)]))))
    assert annotation.area == 16
    assert annotation.notes == ["not labelled: 1 × LineString", "not labelled: 1 × Point"]


def test_formats_that_are_not_read_are_refused_with_a_remedy(tmp_path, classes, annotations):
    with pytest.raises(UserError, match=r"a\.jpg: annotations are read from GeoJSON.*masks"):
        read_annotation(tmp_path / "a.jpg", classes, annotations, SIZE)


CORE = mapping(box(0, 0, 100, 80))


@pytest.mark.parametrize(
    "core",
    [
        {"geometry": CORE, "properties": {"objectType": "tmaCore", "name": "A-1", "isMissing": False}},
        {"geometry": CORE, "properties": {"object_type": "tma_core"}},
        {"geometry": CORE, "properties": {}, "id": "TMACoreObject"},
        {"geometry": None, "properties": {"objectType": "root"}},
        {"geometry": None, "properties": None, "id": "PathRootObject"},
    ],
)
@pytest.mark.parametrize("children", [None, "childObjects", "children"])
def test_what_holds_shapes_is_none(tmp_path, classes, core, children, expected):
    """QuPath's containers, as its versions write them: their shapes next to them, or in them."""
    core = {"type": "Feature", **core}
    feature = {"type": "Feature", "geometry": mapping(box(10, 10, 20, 20)), "properties": {"classification": "Tumor"}}
    if children:
        core["properties"] = {**(core["properties"] or {}), children: [feature]}
    (tmp_path / "a.json").write_text(json.dumps([core] if children else [core, feature]))
    annotation = read_annotation(tmp_path / "a.json", classes, Annotations(ignore=["Unclassified"]), SIZE)
    np.testing.assert_array_equal(annotation.rasterise(0, 0, 100, 80, 1), expected((80, 100), (1, 10, 10, 20, 20)))
    assert len(annotation.notes) == 1
    assert "a container and not a shape" in annotation.notes[0]


GOOD = ("stroma", (60, 60, 90, 70))
SLIVER = ("Tumor", (10, 10.6, 40, 11.4))


@pytest.mark.parametrize(
    ("shapes", "options", "lost"),
    [
        ([("Tumor", (-7, 10, -1, 20))], {}, "1 × shape outside the slide"),
        ([("Region", (50, 50, 100, 80)), ("Tumor", (1, 1, 9, 9))], {"fill": "stroma"}, "1 × shape outside all regions"),
        ([("Ignore*", (0, 0, 30, 30)), ("Tumor", (1, 1, 9, 9))], {}, "1 × shape hidden by an ignored one"),
        ([("Tumor", (60, 60, 90, 70))], {}, "1 × shape hidden by another with the same outline"),
        ([("Tumor", (0.1, 0.1, 0.4, 0.4)), SLIVER], {}, "2 × shape smaller than a pixel"),
    ],
)
def test_shapes_without_a_pixel_are_counted(read, shapes, options, lost):
    annotation = read(*shapes, GOOD, **options)
    assert not (annotation.rasterise(0, 0, 100, 80, 1) == 1).any()
    assert annotation.present == {0}
    assert f"not labelled: {lost}" in annotation.notes


def test_shapes_without_a_pixel_depend_on_the_resolution(tmp_path, geojson, classes, annotations):
    path = geojson(tmp_path / "a.geojson", ("Tumor", (11, 11, 17, 17)), ("stroma", (40, 40, 90, 80)))
    for downsample, present, count in ((1, {0, 1}, 0), (4, {0, 1}, 0), (20, {0}, 1)):
        annotation = read_annotation(path, classes, annotations, SIZE, downsample=downsample)
        assert annotation.present == present
        assert annotation.notes == count * ["not labelled: 1 × shape smaller than a pixel"]


@given(st.integers(0, 2**32), st.floats(0.5, 6))
@settings(max_examples=150, deadline=None)
def test_which_shapes_have_no_pixel_is_known_exactly(seed, size):
    rng = np.random.default_rng(seed)
    points = rng.uniform(-size, size, (rng.integers(3, 9), 2))
    shape = shapely.make_valid(Polygon(points[np.argsort(np.arctan2(*points.T))] * [1, 0.2] + 20))
    if shape.geom_type != "Polygon":
        return
    y, x = np.mgrid[0:40, 0:40] + 0.5
    assert without_pixel(np.array([shape]), 1.0)[0] == (not shapely.contains_xy(shape, x + 1e-6, y + 1.618e-6).any())


@pytest.mark.parametrize("everywhere", [False, True])
@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        (("Tumor", mapping(Point(5, 5))), "1 × Point"),
        (("Tumor", (0.1, 0.1, 0.4, 0.4)), "1 × shape smaller than a pixel"),
        (("Tumor", (-7, 10, -1, 20)), "1 × shape outside the slide"),
    ],
)
def test_a_file_of_which_nothing_is_left_is_refused(read, shape, reason, everywhere):
    """Above all where the whole slide would become another class."""
    options = {"whole_slide": True, "fill": "stroma"} if everywhere else {}
    with pytest.raises(UserError, match=rf"a\.geojson: nothing in it labels a pixel \({reason}\); correct it, or"):
        read(shape, **options)


def test_regions_and_ignored_shapes_alone_are_refused_but_where_they_bound_what_is_filled(read):
    region, ignored = ("Region*", (0, 0, 50, 50)), ("Ignore*", (0, 0, 9, 9))
    with pytest.raises(UserError, match=r"\(1 × ignored shape, 1 × region\); set annotations.fill"):
        read(region, ignored)
    with pytest.raises(UserError, match=r"\(1 × ignored shape, 1 × shape hidden by an ignored one\)"):
        read(ignored, ("Tumor", (1, 1, 5, 5)))
    assert read(region, ignored, fill="stroma").area == 2500 - 81
    assert read(ignored, fill="stroma", whole_slide=True).area == 8000 - 81


def test_a_file_without_shapes_is_no_error(read):
    assert read().notes == ["the annotation has no shape: nothing is annotated"]
    assert read(fill="stroma", whole_slide=True).notes == ["the annotation has no shape: all of the slide is stroma"]


def test_the_class_that_fills_is_present_where_something_is_left_for_it(read):
    region, tumour = ("Region*", (0, 0, 50, 50)), ("Tumor", (10, 10, 20, 20))
    assert read(region, tumour, fill="stroma").present == {0, 1}
    assert read(region, tumour).present == {1}
    assert read(region, ("Tumor", (0, 0, 50, 50)), fill="stroma").present == {1}


COMPOSED, DECOMPOSED = "Tum\u00e9ur", "Tume\u0301ur"


@pytest.mark.parametrize(("written", "configured"), [(COMPOSED, DECOMPOSED), (DECOMPOSED, COMPOSED)])
def test_names_are_compared_in_composed_form(read, classes, written, configured):
    classes[1] = TissueClass(name="tumour", color="#c83232", annotations=[configured])
    assert read((written, (10, 10, 20, 20))).present == {1}
    assert read((f"{written} 1", (10, 10, 20, 20)), regions=[f"{configured}*"], fill="stroma").present == {0}
    assert read((written, (10, 10, 20, 20)), ("stroma", (30, 30, 40, 40)), ignore=[configured]).present == {0, 1}
