import numpy as np
import pytest

from stedm.config import Annotations
from stedm.errors import UserError
from stedm.slides.annotations import read_annotation

SIZE = (100, 80)


def region(*points, kind=0, negative=0, text="", number=1):
    vertices = "".join(f'<Vertex X="{x}" Y="{y}" Z="0"/>' for x, y in points)
    return (
        f'<Region Id="{number}" Type="{kind}" Zoom="1" Text="{text}" NegativeROA="{negative}" Analyze="1">'
        f"<Attributes/><Vertices>{vertices}</Vertices></Region>"
    )


def square(left, upper, right, lower, **options):
    return region((left, upper), (right, upper), (right, lower), (left, lower), **options)


def layer(*regions, name="", attributes='<Attribute Name="Description" Id="0" Value=""/>', number=1, colour=65280):
    """As ImageScope 12 writes it."""
    return (
        f'<Annotation Id="{number}" Name="{name}" ReadOnly="0" Type="4" LineColor="{colour}" Visible="1">'
        f"<Attributes>{attributes}</Attributes><Regions><RegionAttributeHeaders>"
        '<AttributeHeader Id="9999" Name="Region" ColumnWidth="-1"/></RegionAttributeHeaders>'
        f"{''.join(regions)}</Regions><Plots/></Annotation>"
    )


@pytest.fixture
def read(tmp_path, classes):
    def read_layers(*layers, **options):
        path = tmp_path / "a.xml"
        path.write_text(f'<Annotations MicronsPerPixel="0.25">{"".join(layers)}</Annotations>')
        return read_annotation(path, classes, Annotations(**options), SIZE)

    return read_layers


@pytest.mark.parametrize(
    "item",
    [
        layer(square(20, 10, 50, 40), name="Tumor"),
        layer(square(20, 10, 50, 40, text="region 7"), name="Tumor"),
        layer(square(20, 10, 50, 40), attributes='<Attribute Name="Description" Id="0" Value="Tumor"/>'),
        layer(square(20, 10, 50, 40), attributes='<Attribute Name="Tumor" Id="0" Value=""/>'),
        layer(square(20, 10, 50, 40, text=" Tumor ")),
        layer(square(20, 10, 50, 40, kind=1), name="Tumor"),
        layer(region((20, 10), (50, 40), kind=1), name="Tumor"),
    ],
)
def test_layers_and_regions_name_classes(read, expected, item):
    result = read(item)
    np.testing.assert_array_equal(result.rasterise(0, 0, 100, 80, 1), expected((80, 100), (1, 20, 10, 50, 40)))
    assert result.format == "aperio"


def test_nameless_layers_are_called_as_in_imagescope(read):
    with pytest.raises(UserError, match=r"unknown classes: 'Layer 2' \(2, #ff0000\), 'Layer 5' \(1, #ffff00\)"):
        read(
            layer(square(1, 1, 9, 9), square(1, 1, 5, 5), number=2, colour=255),
            layer(square(1, 1, 9, 9), number=5, colour=65535),
        )


def test_ellipses_lie_in_the_box_of_their_two_corners(read):
    result = read(layer(region((20, 10), (60, 40), kind=2), name="Tumor"))
    assert result.bounds == (20, 10, 60, 40)
    assert result.area == pytest.approx(np.pi * 20 * 15, rel=1e-2)
    y, x = np.mgrid[:80, :100] + 0.5
    inside = ((x - 40) / 20) ** 2 + ((y - 25) / 15) ** 2 < 1
    np.testing.assert_array_equal(result.rasterise(0, 0, 100, 80, 1) == 1, inside)


def test_negative_regions_are_holes_in_the_regions_of_their_layer_only(read, expected):
    holed = layer(square(30, 20, 60, 30, negative=1), square(20, 10, 50, 40), name="Tumor")
    other = layer(square(32, 22, 36, 26), square(55, 20, 65, 30), name="stroma", number=2)
    wanted = expected((80, 100), (1, 20, 10, 50, 40), (255, 30, 20, 50, 30), (0, 32, 22, 36, 26), (0, 55, 20, 65, 30))
    np.testing.assert_array_equal(read(holed, other).rasterise(0, 0, 100, 80, 1), wanted)


def test_negative_regions_without_a_body_are_counted(read):
    alone = layer(square(30, 20, 60, 30, negative=1), name="stroma", number=2)
    apart = layer(square(20, 10, 50, 40), square(70, 70, 80, 75, negative=1), name="Tumor")
    result = read(apart, alone)
    assert result.area == 900
    assert result.notes == ["not labelled: 2 × negative region without a body"]
    with pytest.raises(UserError, match=r"nothing in it labels a pixel \(1 × negative region without a body\)"):
        read(alone)


def test_an_outline_that_goes_round_twice_loses_its_hole_only(read):
    corners = [(10, 10), (60, 10), (60, 60), (10, 60)]
    result = read(layer(region(*corners, *corners), square(20, 20, 30, 30, negative=1), name="Tumor"))
    assert result.area == 2400
    assert "layer 1, region 1: 5,000 to 2,500 px" in result.notes[0]


def test_coordinates_may_have_decimal_commas(read):
    assert read(layer(region(("20,5", 10), ("50,5", 10), ("50,5", 40)), name="Tumor")).bounds == (20.5, 10, 50.5, 40)


def test_holes_cut_outlines_that_cross_themselves(read):
    bow_tie = region((10, 10), (30, 30), (30, 10), (10, 30))
    assert read(layer(bow_tie, square(0, 0, 20, 80, negative=1), name="Tumor")).area == pytest.approx(100)


def test_arrows_and_rulers_are_counted(read):
    items = [region((1, 1), (9, 9), kind=3), region((1, 1), (9, 9), kind=4), region((4, 4), kind=5)]
    result = read(layer(*items, square(20, 10, 50, 40), square(0, 0, 5, 5, negative=1), name="Tumor"))
    assert result.area == 900
    assert result.notes == ["not labelled: 2 × LineString", "not labelled: 1 × Point"]


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (region((1, 1), (2, 2), kind="Polygon"), "no region type 'Polygon'"),
        (region((1, 1), (2, "x"), (3, 3)), "could not convert"),
        (region((1, 1), (2, "inf"), (3, 3)), "no numbers"),
        (region((1, 1), (2, "nan"), (3, 3), negative=1), "no numbers"),
    ],
)
def test_broken_regions_are_named(read, item, message):
    with pytest.raises(UserError, match=rf"a\.xml, layer 1, region 1: .*{message}"):
        read(layer(item, name="Tumor"))
