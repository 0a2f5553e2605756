"""Outputs that were put in each other's place are whole, and unchanged: what they were made for tells."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny

from stedm.config import ArmData, Network, PseudoLabels, SegmentationOptions, Training
from stedm.diffusion.training import cached_inputs
from stedm.errors import UserError
from stedm.files import write_json, written_whole
from stedm.hdf5 import new_file
from stedm.models import check_made_for
from stedm.segmentation.training import train_network
from stedm.shards import Generated, Shards, write_shard
from stedm.store import PatchFile
from stedm.style.bank import StyleBank
from stedm.synthesis.recolour import recolour
from stedm.synthesis.shard import make_shard, write_manifest
from stedm.tables import PLAN

PIXELS = np.zeros((32, 32, 3), np.uint8), np.zeros((32, 32), np.uint8)


def shard(path: Path, source: str, split: str = "split", numbers=(0, 1)) -> Path:
    """A shard that was made for a source and split."""
    about = {"source": source, "split": split, "styled": True}
    write_shard(path, [Generated(number, *PIXELS, 0) for number in numbers], 32, tiny.CLASSES, about)
    return path


def table(source="styled", split="split"):
    return pd.DataFrame({"source": source, "split": split, "image": range(4)})


@pytest.mark.parametrize(("source", "split"), [("plain", "split"), ("styled", "n2-r0")])
def test_shards_of_another_source_or_split_are_named(tmp_path, source, split):
    right, wrong = shard(tmp_path / "0.h5", "styled"), shard(tmp_path / "1.h5", source, split, (2, 3))
    with pytest.raises(
        UserError, match=f"1\\.h5: was made for the source {source} and the split {split}, not for styled"
    ):
        Shards([right, wrong], table())
    assert Shards([right], table()).image_ids == [0, 1]


def test_a_shard_in_two_places_is_noticed(tmp_path):
    paths = [shard(tmp_path / f"{number}.h5", "styled") for number in range(2)]
    with pytest.raises(UserError, match="its shards have images twice"):
        Shards(paths, table())


@pytest.mark.parametrize(("source", "split"), [("plain", "split"), ("styled", "n2-r0")])
def test_a_network_is_not_trained_on_shards_of_another_source_or_split(tiny_study, source, split):
    arm = ArmData(sources=["styled"])
    network = Network(
        encoder="tu-test_resnet", encoder_depth=3, decoder_channels=[16, 8, 8], training=Training(steps=1)
    )
    options = SegmentationOptions(
        segmentation=network, arm=arm, arm_name="styled", class_names=tiny.CLASSES, device={}, seed=0
    )
    wrong = shard(tiny_study / "0.h5", source, split)
    inputs = tiny_study / "split.csv", tiny_study / "patches", [wrong]
    with pytest.raises(
        UserError, match=f"0\\.h5: was made for the source {source} and the split {split}, not for styled"
    ):
        train_network(options, *inputs, work=tiny_study / "work", out=tiny_study / "out")
    assert not (tiny_study / "out").exists()


def test_plans_and_shards_of_two_sources_do_not_mix(tiny_study):
    tiny.plan(tiny_study, "recolour", images=4, shards=1)
    made = tiny.shard(tiny_study, recolour)
    assert (made.source, made.split) == ("some", "split")
    plan = PLAN.read(tiny_study / "plan.csv").assign(source="another")
    with written_whole(tiny_study / "another.csv") as temporary:
        PLAN.write(plan, temporary)
    with pytest.raises(UserError, match="0\\.h5: was made for the source some and"):
        write_manifest(tiny_study / "another.csv", [tiny_study / "0.h5"], out=tiny_study / "manifest.csv")
    with pytest.raises(UserError, match=r"another\.csv: is of the source another, not of some"):
        tiny.shard(tiny_study, recolour, plan="another.csv", out="1.h5")


def model(path: Path, **made_for: object) -> Path:
    """A model's folder that says what it was made for."""
    split = made_for.pop("split")
    with written_whole(path) as temporary:
        temporary.mkdir()
        write_json(temporary / "provenance.json", {"options": made_for, "inputs": {}, "split": split})
    return path


@pytest.mark.parametrize(
    ("made_for", "named"),
    [
        ({"split": "split", "generator_name": "plain"}, "generator_name plain, and generator_name styled is needed"),
        ({"split": "n2-r0", "generator_name": "styled"}, "split n2-r0, and split split is needed"),
        ({"split": "n2-r0", "arm_name": "real"}, "split n2-r0, and split split is needed"),
    ],
)
def test_images_are_not_made_with_a_model_of_another_source_or_split(tiny_study, made_for, named):
    tiny.plan(tiny_study, "recolour", images=4, shards=1)
    folder = model(tiny_study / "model", **made_for)
    with pytest.raises(UserError, match=f"model: was made for {named} here"):
        make_shard(
            tiny.shard_options(),
            recolour,
            tiny_study / "plan.csv",
            0,
            tiny_study / "patches",
            out=tiny_study / "0.h5",
            models=[folder],
        )


def test_patches_are_not_labelled_by_the_network_of_another_arm(tiny_study):
    tiny.plan(tiny_study, "recolour", images=4, shards=1)
    folder = model(tiny_study / "model", split="split", arm_name="strong")
    source = PseudoLabels(kind="pseudo_labels", arm="real")
    inputs = tiny_study / "plan.csv", 0, tiny_study / "patches"
    with pytest.raises(UserError, match="model: was made for arm_name strong, and arm_name real is needed here"):
        make_shard(tiny.shard_options(source), recolour, *inputs, out=tiny_study / "0.h5", models=[folder])


def test_a_network_of_another_arm_or_seed_is_not_scored(tmp_path):
    folder = model(tmp_path / "model", split="n1-r0", arm_name="real", seed=1)
    check_made_for(folder, split="n1-r0", arm_name="real", seed=1)
    for wrong in ({"arm_name": "styled"}, {"seed": 0}, {"split": "n1-r1"}):
        with pytest.raises(UserError, match=f"model: was made for {next(iter(wrong))} "):
            check_made_for(folder, **{"split": "n1-r0", "arm_name": "real", "seed": 1} | wrong)


def test_published_weights_say_nothing_and_are_taken(tmp_path):
    check_made_for(tmp_path, split="n1-r0", seed=1)


@pytest.fixture
def bank(tiny_study):
    """A style bank of slide A1, by an encoder called "one"."""
    file = PatchFile(tiny_study / "patches/A1.h5")
    (tiny_study / "bank").mkdir()
    shapes = {"embeddings": (len(file), 3), "mean": (3,), "covariances": (4, 3, 3)}
    with new_file(tiny_study / "bank/A1.h5") as cache:
        for name, shape in shapes.items():
            cache.create_dataset(name, data=np.zeros(shape, np.float32), chunks=shape, fletcher32=True)
        cache.attrs.update(slide="A1", patches=file.fingerprint, made_by="one")
    return tiny_study / "bank", file


def test_embeddings_of_another_encoder_are_refused(bank):
    folder, file = bank
    assert StyleBank(folder, "one").embeddings(file, [0, 1]).shape == (2, 3)
    with pytest.raises(UserError, match=r"A1\.h5: was made from other weights than this is for"):
        StyleBank(folder, "two").embeddings(file, [0, 1])


def test_one_file_of_another_bank_stops_a_training(bank):
    folder, file = bank
    for encoder, refused in (("one", False), ("two", True)):
        (folder / "provenance.json").write_text(json.dumps({"inputs": {"A1": file.fingerprint, "encoder": encoder}}))
        if refused:
            with pytest.raises(UserError, match=r"A1\.h5: was made from other weights"):
                cached_inputs(folder, [file], "encoder")
        else:
            assert cached_inputs(folder, [file], "encoder")["encoder"] == "one"
