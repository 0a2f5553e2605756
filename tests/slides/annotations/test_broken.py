"""Files with something wrong anywhere in them are read, or refused with the file's name; nothing else happens."""

import copy
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stedm.config import Annotations, TissueClass
from stedm.errors import UserError
from stedm.slides.annotations import read_annotation

SIZE = (100, 80)
CLASSES = [TissueClass(name="tumour", color="#c83232", annotations=["Tumor"])]
OPTIONS = Annotations(fill="tumour")

SQUARE = [[[10, 10], [50, 10], [50, 40], [10, 40], [10, 10]], [[20, 20], [30, 20], [30, 30], [20, 30], [20, 20]]]
GEOJSON = {
    "type": "FeatureCollection",
    "features": [
        {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": SQUARE},
            "properties": {"classification": {"name": "Tumor", "color": [200, 0, 0]}},
        },
        {
            "type": "Feature",
            "geometry": {"type": "MultiPolygon", "coordinates": [SQUARE, SQUARE[:1]]},
            "properties": {"classification": {"names": ["Region", "1"], "colorRGB": -3670016}},
        },
    ],
}
COCO = {
    "images": [{"id": 1, "file_name": "a.svs", "width": 100, "height": 80}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [[10, 10, 50, 10, 50, 40]]},
        {"id": 2, "image_id": 1, "category_id": 1, "segmentation": [10, 10, 50, 10, 50, 40]},
        {"id": 3, "image_id": 1, "category_id": 1, "segmentation": {"counts": [900, 50, 7050], "size": [80, 100]}},
        {"id": 4, "image_id": 1, "category_id": 1, "segmentation": {"counts": "jk0b1dl6", "size": [80, 100]}},
    ],
    "categories": [{"id": 1, "name": "Tumor", "color": [1, 2, 3]}],
}
ASAP = b"""<?xml version="1.0"?><ASAP_Annotations><Annotations>
<Annotation Name="Annotation 0" Type="Polygon" PartOfGroup="Tumor" Color="#F4FA58"><Coordinates>
<Coordinate Order="0" X="22.3" Y="16.1" /><Coordinate Order="1" X="42.3" Y="16.1" />
<Coordinate Order="2" X="42.3" Y="56.1" /></Coordinates></Annotation></Annotations>
<AnnotationGroups><Group Name="Tumor" PartOfGroup="None" Color="#64FE2E" /></AnnotationGroups></ASAP_Annotations>"""
APERIO = b"""<Annotations MicronsPerPixel="0.25"><Annotation Id="1" Name="Tumor" LineColor="65280"><Attributes>
<Attribute Name="CaP" Id="0" Value=""/></Attributes><Regions><Region Id="1" Type="0" Text="" NegativeROA="0"><Vertices>
<Vertex X="10" Y="10"/><Vertex X="50" Y="10"/><Vertex X="50" Y="40"/></Vertices></Region>
<Region Id="2" Type="2" Text="" NegativeROA="1"><Vertices><Vertex X="30" Y="12"/><Vertex X="40" Y="20"/></Vertices>
</Region></Regions></Annotation></Annotations>"""

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from([1e308, 2**63, 10**400, "", "Tumor", "Polygon", "Point"])
    | st.text(max_size=4)
)
nonsense = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["type", "counts", "size", "id"]), inner)
    ),
    max_leaves=6,
)


def places(value, path=()):
    """Paths of everything within a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from places(item, (*path, key))


def replaced(value, path, by):
    value = copy.deepcopy(value)
    inner = value
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = by
    return value


def try_to_read(path):
    try:
        annotation = read_annotation(path, CLASSES, OPTIONS, SIZE, "a.svs")
    except UserError as error:
        assert all(path.name in message for message in error.messages)
    else:
        assert 0 <= annotation.area <= 110 * 90
        assert set(annotation.rasterise(0, 0, 25, 20, 4).ravel().tolist()) <= {0, 255}


@pytest.mark.parametrize("valid", [GEOJSON, COCO], ids=["geojson", "coco"])
@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_json_with_nonsense_anywhere(tmp_path_factory, valid, data):
    path = tmp_path_factory.getbasetemp() / "a.json"
    where = data.draw(st.sampled_from(list(places(valid))))
    path.write_text(json.dumps(replaced(valid, where, data.draw(nonsense))))
    try_to_read(path)


@pytest.mark.parametrize("valid", [ASAP, APERIO], ids=["asap", "aperio"])
@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_xml_with_nonsense_anywhere(tmp_path_factory, valid, data):
    path = tmp_path_factory.getbasetemp() / "a.xml"
    start = data.draw(st.integers(0, len(valid)))
    stop = start + data.draw(st.integers(0, 8))
    middle = data.draw(st.binary(max_size=4) | st.sampled_from([b"nan", b"-1", b"1e308", b"<", b'"', b"X", b"1e400"]))
    path.write_bytes(valid[:start] + middle + valid[stop:])
    try_to_read(path)


@given(number=st.sampled_from([b"nan", b"inf", b"-1e308", b"1e308", b"", b"x", b"99999999999"]), data=st.data())
@settings(max_examples=100, deadline=None)
def test_xml_with_nonsense_for_a_number(tmp_path_factory, number, data):
    path = tmp_path_factory.getbasetemp() / "a.xml"
    parts = data.draw(st.sampled_from([ASAP, APERIO])).split(b'"')
    at = data.draw(st.integers(0, len(parts) // 2 - 1)) * 2 + 1
    path.write_bytes(b'"'.join([*parts[:at], number, *parts[at + 1 :]]))
    try_to_read(path)


@pytest.mark.parametrize("suffix", ["json", "xml"])
@given(content=st.binary(max_size=40))
@settings(max_examples=100, deadline=None)
def test_any_bytes(tmp_path_factory, suffix, content):
    path = tmp_path_factory.getbasetemp() / f"a.{suffix}"
    path.write_bytes(content)
    try_to_read(path)


@pytest.mark.parametrize("suffix", ["json", "geojson", "xml", "png", "tif"])
def test_folders_and_missing_files(tmp_path, suffix):
    try_to_read(tmp_path / f"missing.{suffix}")
    (tmp_path / f"folder.{suffix}").mkdir()
    try_to_read(tmp_path / f"folder.{suffix}")


def test_the_valid_files_are_valid(tmp_path):
    for name, content in (
        ("geojson.json", json.dumps(GEOJSON).encode()),
        ("coco.json", json.dumps(COCO).encode()),
        ("asap.xml", ASAP),
        ("aperio.xml", APERIO),
    ):
        (tmp_path / name).write_bytes(content)
        options = OPTIONS if name == "geojson.json" else Annotations()
        assert read_annotation(tmp_path / name, CLASSES, options, SIZE, "a.svs").area > 0
