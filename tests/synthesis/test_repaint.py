"""Unannotated patches, labelled by a network whose answers are known and repainted by a small generator."""

from functools import partial

import numpy as np
import pytest
import tiny
from tiny import options, plan, train

from stedm.config import Repaint, StyleBankOptions
from stedm.store import PatchFile
from stedm.style.bank import embed_patches
from stedm.synthesis.repaint import repaint
from stedm.synthesis.shard import write_manifest

SOURCE = Repaint(kind="repaint", generator="styled", arm="real")


def left_and_right(images):
    """Stroma on the left, tumour on the right, nothing sure in between; nothing at all in U2."""
    stroma = np.repeat([0.9, 0.6, 0.1], [14, 4, 14])[None, None].repeat(len(images), 0).repeat(32, 1)
    stroma = np.where(images.mean((1, 2, 3))[:, None, None] > 140, 0.55, stroma)
    return np.stack([stroma, 1 - stroma], 1)


@pytest.fixture
def painted(tiny_study):
    """Makes a shard with some strength."""
    generator = train(tiny_study, options(training={"steps": 1}))
    bank = tiny_study / "bank"
    encoder = StyleBankOptions(generator_name="styled", encoder=options().style.encoder, canonical=True)
    embed_patches(encoder, tiny_study / "split.csv", tiny_study / "patches", out=bank, generator=generator)
    plan(tiny_study, kind="repaint", shards=1, images=8)

    def make(strength, out="0.h5"):
        function = partial(
            repaint,
            generator=generator,
            style_bank=bank,
            predict=left_and_right,
            confidence=0.8,
            strength=strength,
            layout_guidance_scale=2.0,
        )
        return tiny.shard(tiny_study, function, SOURCE, out=out)

    return make


def test_labels_are_the_networks_and_patches_without_any_are_left_out(tiny_study, painted):
    made = painted(0.5)
    table = write_manifest(tiny_study / "plan.csv", [made.path], out=tiny_study / "manifest.csv").set_index("image")
    assert set(table.loc[table["kept"], "layout_slide"]) == {"U1"}
    assert set(table.loc[~table["kept"], "layout_slide"]) == {"U2"}
    assert (table["layout_slide"] == table["style_slide"]).all()
    for index in range(len(made)):
        np.testing.assert_array_equal(made.labels(index)[5], np.repeat([0, 255, 1], [14, 4, 14]))


def test_patches_are_painted_over_and_the_same_again_the_second_time(tiny_study, painted):
    one, same = painted(0.8), painted(0.8, out="same.h5")
    table = write_manifest(tiny_study / "plan.csv", [one.path], out=tiny_study / "manifest.csv").set_index("image")
    assert len(one) == len(same) == 4
    for index, image_id in enumerate(one.image_id):
        np.testing.assert_array_equal(one.image(index), same.image(index))
        patch = PatchFile(tiny_study / "patches/U1.h5").image(table.loc[image_id, "layout_patch"])
        assert (one.image(index) != patch).mean() > 0.5
        difference = one.image(index).astype(float).mean((0, 1)) - patch.mean((0, 1))
        assert np.abs(difference).max() < 40  # the slide's own colours
