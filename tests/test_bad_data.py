"""Bad data in the midst of a study, as the commands meet it: exit status 2, and a message that names the file."""

import json

import numpy as np
import pytest
import tiny
from PIL import Image

from stedm.cli import main
from stedm.config import Device, GeneratorOptions, NoFirstStage


def train(study, generator):
    """`stedm generator train`."""
    options = GeneratorOptions(
        generator=generator,
        generator_name="styled",
        first_stage=NoFirstStage(unshuffle=4),
        device=Device(),
        class_names=["stroma", "tumour"],
        seed=0,
    )
    call = ["generator", "train", "--options", options.model_dump_json()]
    for flag, name in (("split", "split.csv"), ("patches", "patches"), ("work", "work"), ("out", "model")):
        call += [f"--{flag}", str(study / name)]
    return main(call)


@pytest.mark.parametrize("part", [0.05, 0.5, 0.999])
def test_a_patch_file_cut_short_stops_the_training_and_is_named(tiny_study, capsys, part):
    path = tiny_study / "patches/U1.h5"
    path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])
    assert train(tiny_study, tiny.options()) == 2
    assert f"{path}: cannot be read, it may be cut short" in capsys.readouterr().err
    assert not (tiny_study / "model").exists()


def test_a_training_that_diverges_stops_with_step_and_folder_and_leaves_no_model(tiny_study, capsys):
    wild = tiny.options(training={"steps": 40, "learning_rate": 1e30, "gradient_clip": 1e30})
    assert train(tiny_study, wild) == 2
    said = capsys.readouterr().err
    assert f"{tiny_study / 'work'}/" in said
    assert "the loss is " in said
    assert "Lower training.learning_rate" in said
    assert not (tiny_study / "model").exists()


def test_a_mask_of_another_size_is_named_by_the_check_with_both_sizes(tmp_path, capsys):
    for name, height in (("good", 64), ("bad", 64), ("good-mask", 64), ("bad-mask", 40)):
        Image.fromarray(np.full((height, 64), 1, np.uint8)).save(tmp_path / f"{name}.png")
    rows = [f"{name},{name},{tmp_path}/{name}.png,{tmp_path}/{name}-mask.png" for name in ("good", "bad")]
    (tmp_path / "slides.csv").write_text("\n".join(["slide,patient,path,annotation", *rows]) + "\n")
    given = {
        "classes": [{"name": "stroma", "color": "#000000", "mask_values": [1]}],
        "annotations": {},
        "patches": {"size": 32, "level": 0, "tissue": None},
        "strict": False,
    }
    call = ["check", "--options", json.dumps(given)]
    call += ["--sheet", str(tmp_path / "slides.csv"), "--out", str(tmp_path / "check.csv")]
    assert main(call) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith(str(tmp_path))]
    assert line.startswith(f"{tmp_path}/bad-mask.png: the mask is 64 × 40 px, the slide 64 × 64")
