"""What phantoms promise of the layout."""

import numpy as np
import pytest
import shapely
from numpy.random import default_rng
from shapely.geometry import box

from stedm.errors import UserError
from stedm.phantom.files import render_slide
from stedm.phantom.layout import sample_layout
from stedm.phantom.style import sample_style

MPP = 0.5


@pytest.mark.parametrize("group", ["solid", "nested"])
def test_layout_is_valid_and_covers_its_share(group):
    for seed in range(3):
        tumour, region = sample_layout(1024, MPP, group, default_rng(seed))
        assert all(polygon.is_valid and box(0, 0, 1024, 1024).contains(polygon) for polygon in tumour + region)
        tissue = shapely.union_all(region)
        assert tissue.buffer(1).contains(shapely.union_all(tumour))
        assert sum(polygon.area for polygon in tumour) == pytest.approx(shapely.union_all(tumour).area)  # no overlap
        assert 0.25 < shapely.union_all(tumour).area / tissue.area < 0.45
        assert 0.6 < tissue.area / 1024**2 < 0.8


def test_nested_tumours_have_more_and_smaller_nests_than_solid_ones():
    solid, nested = (sample_layout(1024, MPP, group, default_rng(1))[0] for group in ("solid", "nested"))
    assert len(nested) > len(solid)
    assert np.median([polygon.area for polygon in nested]) < np.median([polygon.area for polygon in solid])


def test_the_layout_does_not_depend_on_the_style():
    styles = [sample_style(default_rng(seed), wide=True) for seed in range(3)]
    layouts = [render_slide(512, MPP, style, "nested", default_rng(7))[1:] for style in styles]
    assert layouts[0] == layouts[1] == layouts[2]


def test_unknown_groups_and_tiny_slides_are_refused():
    with pytest.raises(UserError, match=r"column group: .*'other'; choose from solid, nested"):
        sample_layout(512, MPP, "other", default_rng(0))
    with pytest.raises(UserError, match=r"phantoms\.size: 64 px .* at least 120 µm"):
        sample_layout(64, MPP, "solid", default_rng(0))
