import numpy as np
import pytest

from stedm.config import Annotations
from stedm.errors import UserError
from stedm.slides.annotations import read_annotation

SIZE = (100, 80)
HEAD = '<?xml version="1.0"?>\n<ASAP_Annotations>\n\t<Annotations>\n'
FOOT = """\t</Annotations>
	<AnnotationGroups>
		<Group Name="Tumor" PartOfGroup="None" Color="#64FE2E"><Attributes /></Group>
		<Group Name="stroma" PartOfGroup="None" Color="#aa0000"><Attributes /></Group>
	</AnnotationGroups>
</ASAP_Annotations>
"""


def annotation(kind, group, *points):
    """As ASAP 1.9 and 2.0 write it."""
    coordinates = "".join(
        f'\t\t\t\t<Coordinate Order="{order}" X="{x}" Y="{y}" />\n' for order, (x, y) in enumerate(points)
    )
    return (
        f'\t\t<Annotation Name="Annotation 0" Type="{kind}" PartOfGroup="{group}" Color="#F4FA58">\n'
        f"\t\t\t<Coordinates>\n{coordinates}\t\t\t</Coordinates>\n\t\t</Annotation>\n"
    )


def square(group, left, upper, right, lower, kind="Polygon"):
    return annotation(kind, group, (left, upper), (right, upper), (right, lower), (left, lower))


@pytest.fixture
def read(tmp_path, classes):
    def read_annotations(*items, **options):
        path = tmp_path / "a.xml"
        path.write_text(HEAD + "".join(items) + FOOT)
        return read_annotation(path, classes, Annotations(**options), SIZE)

    return read_annotations


@pytest.mark.parametrize("kind", ["Polygon", "Rectangle", "Spline"])
def test_groups_are_classes(read, expected, kind):
    result = read(square("Tumor", 20, 10, 50.0, 40, kind=kind), square("stroma", 60, 10, 70, 20, kind=kind))
    wanted = expected((80, 100), (1, 20, 10, 50, 40), (0, 60, 10, 70, 20))
    np.testing.assert_array_equal(result.rasterise(0, 0, 100, 80, 1), wanted)
    assert (result.format, result.notes) == ("asap", [])


def test_exclusions_within_a_tumour_are_painted_over_it_though_they_come_first(read, expected):
    inner, outer = square("stroma", 30, 20, 40, 30), square("Tumor", 20, 10, 50, 40)
    wanted = expected((80, 100), (1, 20, 10, 50, 40), (0, 30, 20, 40, 30))
    np.testing.assert_array_equal(read(inner, outer).rasterise(0, 0, 100, 80, 1), wanted)
    np.testing.assert_array_equal(read(outer, inner).rasterise(0, 0, 100, 80, 1), wanted)


def test_points_are_taken_in_the_order_that_they_are_numbered(tmp_path, read, classes):
    read(square("Tumor", 20, 10, 50, 40))
    path = tmp_path / "a.xml"
    lines = path.read_text().splitlines()
    lines[6], lines[7] = lines[7], lines[6]
    assert 'Order="2"' in lines[6]
    path.write_text("\n".join(lines))
    assert read_annotation(path, classes, Annotations(), SIZE).area == 900


def test_coordinates_may_have_decimal_commas(read):
    """As ASAP writes them where the system's language has them."""
    points = [("20,5", "10,25"), ("50,5", "10,25"), ("50,5", "40,25"), ("20,5", "40,25")]
    result = read(annotation("Polygon", "Tumor", *points))
    assert result.bounds == (20.5, 10.25, 50.5, 40.25)
    with pytest.raises(UserError, match=r"annotation 1 .*'1,020.5'"):
        read(annotation("Polygon", "Tumor", ("1,020.5", "10"), *points[1:]))


def test_groups_that_the_file_does_not_list_are_noted(read):
    result = read(square("Lesion", 20, 10, 50, 40), square("Lesion", 60, 60, 70, 70), regions=["Lesion"], fill="stroma")
    assert result.notes == ["2 × annotation of the group 'Lesion', which the file does not list"]


def test_dots_point_sets_and_measurements_are_counted_or_refused(read):
    items = [
        annotation("Dot", "None", (5, 5)),
        annotation("PointSet", "None", (1, 1), (2, 2), (3, 3)),
        annotation("Measurement", "None", (1, 1), (2, 2)),
        square("Tumor", 20, 10, 50, 40),
    ]
    result = read(*items)
    assert result.area == 900
    assert result.notes == [
        "not labelled: 1 × LineString",
        "not labelled: 4 × Point",
    ]
    with pytest.raises(UserError, match=r"a\.xml: 1 × LineString, 4 × Point: .*annotations\.without_area"):
        read(*items, without_area="refuse")


def test_annotations_without_a_group_are_unclassified(read):
    with pytest.raises(UserError, match=r"unknown classes: 'Unclassified' \(1, #F4FA58\), 'Gland' \(1, #F4FA58\)"):
        read(square("None", 1, 1, 9, 9), square("Gland", 1, 1, 9, 9))


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (annotation("Blob", "Tumor", (1, 1), (2, 2), (3, 1)), r"annotation 1 \('Annotation 0'\): .*'Blob'"),
        (annotation("Polygon", "Tumor", (1, 1), (2, "x"), (3, 1)), "annotation 1 .*could not convert"),
        (annotation("Polygon", "Tumor", (1, 1), (2, "nan"), (3, 1)), "annotation 1 .*no numbers"),
        (annotation("Measurement", "Tumor", (1, 1)), "annotation 1"),
        (
            '<Annotation Type="Dot"><Coordinates><Coordinate Order="0" Y="1"/></Coordinates></Annotation>',
            "annotation 1 .*'X' is missing",
        ),
    ],
)
def test_broken_elements_are_named(read, item, message):
    with pytest.raises(UserError, match=rf"a\.xml, {message}"):
        read(item)


LAUGHS = """<?xml version="1.0"?>
<!DOCTYPE ASAP_Annotations [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;">]>
<ASAP_Annotations>&c;</ASAP_Annotations>"""
EXTERNAL = """<?xml version="1.0"?>
<!DOCTYPE ASAP_Annotations [<!ENTITY a SYSTEM "file:///etc/passwd">]>
<ASAP_Annotations>&a;</ASAP_Annotations>"""


@pytest.mark.parametrize("text", [LAUGHS, EXTERNAL])
def test_entities_are_refused(tmp_path, text):
    (tmp_path / "a.xml").write_text(text)
    with pytest.raises(UserError, match=r"a\.xml: cannot be read as XML \(it defines entities\)"):
        read_annotation(tmp_path / "a.xml", [], Annotations(), SIZE)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read as XML"),
        (b"<Annotations>", "cannot be read as XML"),
        (b'<?xml version="1.0" encoding="klingon"?><Annotations/>', "cannot be read as XML"),
        (b"<Annotations>\xff\xfe</Annotations>", "cannot be read as XML"),
        (b"<annotations/>", "its root is <annotations>"),
    ],
)
def test_files_that_are_not_such_xml_are_refused(tmp_path, content, message):
    (tmp_path / "a.xml").write_bytes(content)
    with pytest.raises(UserError, match=rf"a\.xml: {message}"):
        read_annotation(tmp_path / "a.xml", [], Annotations(), SIZE)


def test_deep_nesting_does_no_harm(tmp_path):
    (tmp_path / "a.xml").write_text("<Annotations>" * 200_000 + "</Annotations>" * 200_000)
    assert "no shape" in read_annotation(tmp_path / "a.xml", [], Annotations(), SIZE).notes[0]
