"""Broken input of every kind that a user gives: only our own error may come of it, never a traceback.

Some hundred examples each, always the same. New ones by the thousand:

    pytest tests/test_fuzz.py --hypothesis-profile long
"""

import contextlib
import copy
import io
import json
import warnings

import numpy as np
import pytest
import tifffile
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from stedm.config import Annotations, PatchesOptions, Slides, TissueClass, load
from stedm.errors import UserError
from stedm.sheet import read_sheet, similar_names, slides_by_name, write_sheet
from stedm.slides.annotations import read_annotation
from stedm.store import PatchFile, write_patches

ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)
SHEET = b"""slide,patient,path,annotation,group,mpp,split
A,p1,slides.csv,s.png,solid,0.25,test
B,p2,s.png,,nested,,annotated
"""
SHEETS = [
    SHEET,
    SHEET.replace(b",", b";").replace(b"0.25", b"0,25"),
    b"\xef\xbb\xbfsep=;\r\n" + SHEET.replace(b",", b";").replace(b"\n", b"\r\n"),
    SHEET.replace(b"\n", b",,\n") + b",,,,,,,,\n",
    SHEET.decode().replace(",", "\t").encode("utf-16"),
    b'"slide","patient","path","group"\n"A","anna","x/../slides.csv","two ""lines""\nof text"\n"B","Anna","./s.png",\n',
]
"""As spreadsheet programs write them."""
STUDY = {
    "study": "tiny",
    "slides": {"sheet": "slides.csv"},
    "classes": [
        {"name": "rest", "color": "#ffffff", "mask_values": [0]},
        {"name": "tumour", "color": "#000000", "annotations": ["Tumor"], "mask_values": ["1-3"]},
    ],
    "annotations": {"fill": "rest", "regions": ["Region*"]},
    "patches": {"size": 64, "mpp": 0.5},
    "splits": {"source": "sheet", "annotated_patients": [2]},
    "first_stage": {"kind": "none", "unshuffle": 4},
    "generators": {"styled": {"preset": "demo", "style": {"sampler": "multi_patch"}, "training": {"steps": 1}}},
    "synthesis": {"images": 4, "affine": {"scale": [0.8, 1.2]}},
    "segmentation": {"training": {"steps": 1}, "seeds": [0, 1]},
    "arms": {"real": {"label": "real"}, "styled": {"label": "styled", "sources": ["styled"]}},
    "evaluation": {"reference_arm": "real", "evaluator_arm": "real"},
}
SQUARE = [[[10, 10], [90, 10], [90, 90], [10, 90], [10, 10]], [[20, 20], [30, 20], [30, 30], [20, 20]]]
GEOJSON = {
    "type": "FeatureCollection",
    "features": [
        {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": SQUARE},
            "properties": {"objectType": "annotation", "classification": {"name": "Tumor", "color": [1, 2, 3]}},
        },
        {
            "type": "Feature",
            "geometry": {"type": "MultiPolygon", "coordinates": [SQUARE]},
            "properties": {"classification": {"names": ["Region", "1"]}},
        },
    ],
}
TWICE = [[10, 10], [90, 10], [90, 90], [10, 90], [12, 12], [88, 12], [88, 88], [12, 88], [10, 10]]
HIERARCHY = [
    {
        "type": "Feature",
        "id": "PathRootObject",
        "geometry": None,
        "properties": {
            "objectType": "root",
            "childObjects": [
                {
                    "type": "Feature",
                    "geometry": {"type": "Polygon", "coordinates": SQUARE[:1]},
                    "properties": {
                        "objectType": "tmaCore",
                        "isMissing": False,
                        "children": [
                            {
                                "type": "Feature",
                                "geometry": {"type": "Polygon", "coordinates": [TWICE, SQUARE[1], SQUARE[0]]},
                                "nucleusGeometry": {"type": "Polygon", "coordinates": SQUARE[1:]},
                                "properties": {"object_type": "annotation", "classification": {"name": "Tume\u0301ur"}},
                            }
                        ],
                    },
                }
            ],
        },
    }
]
COCO = {
    "images": [{"id": 1, "file_name": "a.tiff", "width": 100, "height": 100}],
    "categories": [{"id": 1, "name": "Tumor"}, {"id": 2, "name": "rest"}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [[10, 10, 90, 10, 90, 90, 10, 90]]},
        {"id": 2, "image_id": 1, "category_id": 2, "segmentation": {"size": [100, 100], "counts": [2000, 300, 7700]}},
    ],
}
COCO_OF_PANDAS = {
    "images": [{"id": "1", "file_name": "C:\\slides\\a.svs", "width": 100.0, "height": 100}],
    "categories": [{"id": 1.0, "name": "Tume\u0301ur"}, {"id": "2", "name": "rest"}],
    "annotations": [
        {"id": 1, "image_id": 1.0, "category_id": None, "segmentation": [10, 10, 90, 10, 90, 90, 10, 90]},
        {"id": 2, "image_id": "9", "category_id": 7, "segmentation": {"size": [100, 100], "counts": "PPY1`o0"}},
        {"id": 3, "image_id": 1, "category_id": 2, "segmentation": [[0.1, 0.1, 0.4, 0.1, 0.4, 0.4], []]},
    ],
}
ASAP = b"""<?xml version="1.0"?>
<ASAP_Annotations>
  <Annotations>
    <Annotation Name="a" Type="Polygon" PartOfGroup="Tumor" Color="#F4FA58"><Coordinates>
      <Coordinate Order="0" X="10.5" Y="10" /><Coordinate Order="1" X="90" Y="10" />
      <Coordinate Order="2" X="50" Y="90" />
    </Coordinates></Annotation>
  </Annotations>
  <AnnotationGroups><Group Name="Tumor" PartOfGroup="None" Color="#64FE2E"><Attributes /></Group></AnnotationGroups>
</ASAP_Annotations>"""
APERIO = b"""<?xml version="1.0"?>
<Annotations MicronsPerPixel="0.25">
  <Annotation Id="1" Name="Tumor" LineColor="65280"><Regions>
    <Region Id="1" Type="0" NegativeROA="0" Text=""><Vertices>
      <Vertex X="10" Y="10" Z="0" /><Vertex X="90.5" Y="10" Z="0" /><Vertex X="50" Y="90" Z="0" />
    </Vertices></Region>
  </Regions></Annotation>
</Annotations>"""
ASAP_WITH_COMMAS = ASAP.replace(b"10.5", b"10,5").replace(b"Groups>", b"Nothing>")
APERIO_WITH_HOLES = APERIO.replace(
    b"</Regions>",
    b"""<Region Id="2" Type="2" NegativeROA="1"><Vertices><Vertex X="30" Y="20"/><Vertex X="40,5" Y="30"/></Vertices>
    </Region><Region Id="3" Type="0" NegativeROA="1"><Vertices><Vertex X="1" Y="1"/><Vertex X="3" Y="1"/>
    <Vertex X="1" Y="3"/><Vertex X="3" Y="3"/></Vertices></Region></Regions>""",
)
CLASSES = [
    TissueClass(name="rest", color="#ffffff", mask_values=["0"]),
    TissueClass(name="tumour", color="#000000", mask_values=["1-300"], annotations=["Tumor", "Tum\u00e9ur"]),
]
SIZE = 100, 100
PIECES = [b"", b'"', b"\n", b",", b"\0", b"\xff", b"-1e999"]
VALUES = [SQUARE, {}, [], "", -1, 1e308]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


@contextlib.contextmanager
def only_our_error():
    """Nothing, or a `UserError` of messages that say something."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # NumPy's, of numbers that are refused
            yield
    except UserError as error:
        assert error.messages
        assert all(message.strip() for message in error.messages)


@st.composite
def broken_bytes(draw, whole):
    """Some bytes with pieces of it cut out, put in, replaced or repeated."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 8)))
        data[start:end] = draw(
            st.binary(max_size=8) | st.sampled_from([b"", b'"', b"\n", b",", b"\0", b"\xff", b"-1e999"])
        )
    return bytes(data[: draw(st.none() | st.integers(0, len(data)))])


def places(value, path=()):
    """Paths to all values within a JSON-like one."""
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inner:
        yield from places(item, (*path, key))


@st.composite
def broken_values(draw, whole):
    """A JSON-like value of which some parts are replaced, left out, or another part of it."""
    value = copy.deepcopy(whole)
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from([place for place in places(value) if place] or [()]))
        if not path:
            return draw(ANY_JSON)
        *way, last = path
        parent = value
        for key in way:
            parent = parent[key]
        if draw(st.booleans()):
            parent[last] = draw(
                ANY_JSON | st.sampled_from([copy.deepcopy(item) for item in (SQUARE, {}, [], "", -1, 1e308)])
            )
        else:
            del parent[last]
    return value


@pytest.mark.parametrize("whole", SHEETS, ids=["commas", "semicolons", "sep", "empty columns", "utf-16", "quotes"])
@given(data=st.data())
def test_sheets(folder, whole, data):
    (folder / "slides.csv").write_bytes(data.draw(broken_bytes(whole)))
    (folder / "s.png").touch()
    with only_our_error():
        slides = read_sheet(Slides(sheet=str(folder / "slides.csv")))
        similar_names(slides)
        write_sheet(folder / "written.csv", slides)
        assert list(slides_by_name(folder / "written.csv").values()) == slides


@given(broken_bytes(yaml.safe_dump(STUDY).encode()))
def test_configurations_that_are_hardly_yaml(folder, data):
    (folder / "study.yaml").write_bytes(data)
    with only_our_error():
        load(folder / "study.yaml")


@given(broken_values(STUDY))
def test_configurations_of_wrong_values(folder, data):
    (folder / "study.yaml").write_text(yaml.safe_dump(data), encoding="utf-8")
    with only_our_error():
        load(folder / "study.yaml")


@given(broken_values({key: STUDY[key] for key in ("classes", "annotations", "patches")}))
def test_options_of_commands(data):
    with only_our_error():
        PatchesOptions.parse(json.dumps(data))


def read(path):
    """Read an annotation and use it, as a study does."""
    with only_our_error():
        annotation = read_annotation(path, CLASSES, Annotations(regions=["Region*"], fill="rest"), SIZE, "a.tiff")
        assert annotation.rasterise(-5.5, 0, 16, 16, 7.3).shape == (16, 16)
        assert annotation.area >= 0
        assert annotation.bounds is None or len(annotation.bounds) == 4
        assert annotation.present <= {0, 1}
        assert all(note.strip() for note in annotation.notes)


@given(broken_values(GEOJSON) | broken_values(HIERARCHY))
def test_geojson_of_wrong_values(folder, data):
    (folder / "a.geojson").write_text(json.dumps(data), encoding="utf-8")
    read(folder / "a.geojson")


@given(broken_bytes(json.dumps(GEOJSON).encode()))
def test_geojson_that_is_hardly_json(folder, data):
    (folder / "a.geojson").write_bytes(data)
    read(folder / "a.geojson")


@given(broken_values(COCO) | broken_values(COCO_OF_PANDAS))
def test_coco_of_wrong_values(folder, data):
    (folder / "a.json").write_text(json.dumps(data), encoding="utf-8")
    read(folder / "a.json")


@pytest.mark.parametrize(
    "whole",
    [ASAP, ASAP_WITH_COMMAS, APERIO, APERIO_WITH_HOLES],
    ids=["asap", "asap with commas", "aperio", "aperio with holes"],
)
@given(data=st.data())
def test_xml(folder, whole, data):
    (folder / "a.xml").write_bytes(data.draw(broken_bytes(whole)))
    read(folder / "a.xml")


def mask_bytes(suffix, values, **options):
    """A mask as a file's content."""
    buffer = io.BytesIO()
    if suffix == "png":
        Image.fromarray(values).save(buffer, "PNG")
    else:
        tifffile.imwrite(buffer, values, photometric="minisblack", **options)
    return buffer.getvalue()


HALVES = np.repeat(np.array([[0, 1]], np.uint8), [50, 50], axis=1).repeat(100, axis=0)
MASKS = {
    "png": mask_bytes("png", HALVES),
    "png of 16 bits": mask_bytes("png", HALVES.astype(np.uint16) * 255),
    "tif": mask_bytes("tif", HALVES, compression="zlib"),
    "tif of one channel": mask_bytes("tif", HALVES[:, :, None], tile=(32, 32)),
    "tif of pages": mask_bytes("tif", np.stack([HALVES, HALVES])),
    "tif of pages that differ": mask_bytes("tif", np.stack([HALVES, 1 - HALVES]), ome=True),
    "tif of floats": mask_bytes("tif", HALVES.astype(np.float32), imagej=True),
}


@pytest.mark.parametrize("kind", MASKS)
@given(data=st.data())
def test_masks(folder, kind, data):
    path = folder / f"a.{kind[:3]}"
    path.write_bytes(data.draw(broken_bytes(MASKS[kind])))
    read(path)


@pytest.fixture(scope="module", params=[None, 90], ids=["pixels", "jpeg"])
def patches(request, folder):
    """The bytes of a patch file."""
    path = folder / "whole.h5"
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    some = [(image, np.zeros((16, 16), np.uint8), (16 * index, 0), 1.0) for index in range(3)]
    attributes = {"slide": "A", "patient": "A", "group": "", "status": "ok"}
    write_patches(path, some, 16, ["rest", "tumour"], attributes, jpeg_quality=request.param)
    return path.read_bytes()


@given(data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_patch_files(folder, patches, data):
    content = bytearray(patches)
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (folder / "broken.h5").write_bytes(content[: data.draw(st.none() | st.integers(0, len(content)))])
    with only_our_error():
        file = PatchFile(folder / "broken.h5")
        assert file.slide is not None
        for index in range(len(file)):
            file.image(index)
            file.labels(index)
