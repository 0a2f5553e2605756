import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import segmentation_models_pytorch as smp
import torch
from PIL import Image

from stedm import config, store
from stedm.cli import main
from stedm.errors import Interrupted, UserError
from stedm.segmentation.data import MEAN, STD, Batches
from stedm.segmentation.predict import load_network, predict_probabilities
from stedm.segmentation.training import build_network, train_network
from stedm.shards import Generated, write_shard

REAL = config.ArmData()
SYNTHETIC = config.ArmData(sources=["styled"])
ALL = config.ArmData(annotations="all")
CLASSES = ["stroma", "tumour"]


def run(study, network, arm=REAL, out="out", synthetic=(), **over):
    defaults = {"arm_name": "some", "class_names": CLASSES, "device": config.Device(), "seed": 0}
    options = config.SegmentationOptions(segmentation=network, arm=arm, **defaults | over)
    inputs = study / "split.csv", study / "patches", synthetic
    train_network(options, *inputs, work=study / "work", out=study / out)
    return study / out


def weights(folder):
    return {name: value.clone() for name, value in load_network(folder).state_dict().items()}


def test_training_overfits_two_patches(make_slide, options, tmp_path):
    make_slide("A", 2, 10)
    row = {"slide": "A", "patient": "A", "group": "", "role": "annotated", "labelled": True, "fingerprint": ""}
    pd.DataFrame([row]).to_csv(tmp_path / "split.csv", index=False)
    folder = run(tmp_path, options(steps=80))
    file = store.PatchFile(tmp_path / "patches/A.h5")
    probabilities = predict_probabilities(load_network(folder), np.stack([file.image(0), file.image(1)]))
    assert (probabilities.argmax(1) == file.labels(0)).mean() > 0.99


def test_folder_loads_with_smp_alone_and_predicts_the_same(tiny_study, options):
    folder = run(tiny_study, options())
    network = smp.from_pretrained(str(folder)).eval()
    images = store.PatchFile(tiny_study / "patches/T1.h5").file["imgs"][:3]
    scaled = (images / 255 - np.array(MEAN)) / np.array(STD)  # as README.md of the folder says
    with torch.no_grad():
        expected = network(torch.tensor(scaled, dtype=torch.float32).movedim(-1, 1)).softmax(1).numpy()
    probabilities = predict_probabilities(load_network(folder), images)
    assert probabilities.dtype == np.float32
    assert probabilities.shape == (3, 2, 32, 32)
    assert np.allclose(probabilities, expected, atol=1e-5)
    assert np.allclose(probabilities.sum(1), 1, atol=1e-5)
    assert str(MEAN) in (folder / "README.md").read_text(encoding="utf-8")


def test_folder_says_what_it_was_made_from(tiny_study, options):
    folder = run(tiny_study, options())
    made_from = json.loads((folder / "provenance.json").read_text())
    fingerprints = {name: store.patch_file(tiny_study / "patches", name).fingerprint for name in ("A1", "A2")}
    assert made_from["inputs"] == fingerprints
    assert made_from["options"]["segmentation"]["training"]["steps"] == 4
    assert made_from["seed"] == 0
    history = pd.read_csv(folder / "history.csv")
    assert list(history.columns) == ["name", "step", "loss", "seconds", "images_seen"]
    assert set(history["name"]) == {"some"}
    assert history.step.tolist() == [1, 2, 3, 4]
    assert history.images_seen.tolist() == [8, 16, 24, 32]


@pytest.mark.parametrize(("arm", "allowed"), [(REAL, {"A1", "A2"}), (ALL, {"A1", "A2", "U1", "U2"})])
def test_no_file_of_another_role_is_opened(tiny_study, options, monkeypatch, arm, allowed):
    opened = set()

    class Recorded(h5py.File):
        def __init__(self, name, *rest, **more):
            opened.add(Path(name).stem)
            super().__init__(name, *rest, **more)

    monkeypatch.setattr(store.h5py, "File", Recorded)
    run(tiny_study, options(steps=1), arm)
    assert opened == allowed


def test_upper_bound_uses_the_annotations_of_the_unannotated_patients(tiny_study, options, make_slide):
    make_slide("U1", 3, 200)
    inputs = json.loads((run(tiny_study, options(steps=1), ALL) / "provenance.json").read_text())["inputs"]
    assert set(inputs) == {"A1", "A2", "U1"}  # U2 has none


def test_stopped_training_resumes_to_the_same_weights(tiny_study, options, monkeypatch):
    undisturbed = weights(run(tiny_study / ".", options(steps=6), out="undisturbed"))
    for checkpoint in tiny_study.glob("work/*/step-*"):
        checkpoint.unlink()
    get = Batches.__getitem__

    def stop_at_three(self, step):
        if step == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return get(self, step)

    with monkeypatch.context() as patch:
        patch.setattr(Batches, "__getitem__", stop_at_three)
        with pytest.raises(Interrupted, match="run again"):
            run(tiny_study, options(steps=6))
    assert not (tiny_study / "out").exists()
    resumed = weights(run(tiny_study, options(steps=6)))
    assert all(torch.equal(resumed[name], value) for name, value in undisturbed.items())


def test_changed_options_or_inputs_start_afresh_and_others_do_not(tiny_study, options, make_slide):
    def folders():
        return len(list(tiny_study.glob("work/*")))

    run(tiny_study, options())
    run(tiny_study, options(checkpoint_minutes=3, workers=1))
    run(tiny_study, options(), REAL, arm_name="another")
    assert folders() == 1
    run(tiny_study, options(), seed=1)
    run(tiny_study, options(learning_rate=1e-3))
    run(tiny_study, options(), REAL.model_copy(update={"stain_augmentation": True}))
    assert folders() == 4
    make_slide("A1", 7, 10)
    run(tiny_study, options())
    assert folders() == 5


def test_patches_of_arms_with_synthetic_images_come_from_their_shards(tiny_study, options, make_slide):
    image = np.full((32, 32, 3), 200, np.uint8)
    images = [Generated(number, image, np.zeros((32, 32), np.uint8), 0) for number in range(9)]
    shard = tiny_study / "0.h5"
    write_shard(shard, images, 32, CLASSES, {"source": "styled", "styled": True})
    folder = run(tiny_study, options(), SYNTHETIC, synthetic=[shard])
    assert set(json.loads((folder / "provenance.json").read_text())["inputs"]) == {"A1", "A2", "styled/0.h5"}
    history = pd.read_csv(folder / "history.csv")
    assert history.images_seen.tolist() == [16, 32, 48, 64]  # 8 real and 8 synthetic in each batch


def test_inputs_that_cannot_be_trained_on_are_all_named(tiny_study, options):
    with pytest.raises(UserError) as error:
        run(tiny_study, options(), SYNTHETIC, class_names=["stroma", "tumour", "necrosis"])
    text = str(error.value)
    assert "arm some: no synthetic images of the source styled" in text
    assert "A1.h5: its classes are stroma, tumour, those of the study stroma, tumour, necrosis" in text
    too_wide = options().model_copy(update={"loss": config.Loss(crop_margin=16)})
    with pytest.raises(UserError, match="crop_margin: 16 px leaves nothing of 32 px"):
        run(tiny_study, too_wide)


def test_a_batch_that_processes_cannot_share_is_refused(tiny_study, options, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    uneven = SYNTHETIC.model_copy(update={"synthetic_ratio": 0.75})
    with pytest.raises(UserError, match="8 real patches and 6 synthetic images cannot be shared by 4"):
        run(tiny_study, options(), uneven)


def test_split_without_annotated_patches_is_named(tiny_study, options):
    split = pd.read_csv(tiny_study / "split.csv")
    split[split.role != "annotated"].to_csv(tiny_study / "split.csv", index=False)
    with pytest.raises(UserError, match=r"split\.csv: no annotated patch in the slides of role annotated"):
        run(tiny_study, options())


@pytest.mark.parametrize("encoder", ["resnet19", "tu-resnet19"])
def test_unknown_encoder_is_named(options, encoder):
    with pytest.raises(UserError, match=rf"segmentation\.encoder: '{encoder}'.* cannot be built"):
        build_network(options().model_copy(update={"encoder": encoder}), 2)


def test_unknown_weights_are_named(options):
    with pytest.raises(UserError, match="encoder_weights 'imagnet'"):
        build_network(options().model_copy(update={"encoder": "resnet18", "encoder_weights": "imagnet"}), 2)


@pytest.mark.parametrize(("encoder", "weights"), [("resnet18", "imagenet"), ("tu-test_resnet", "imagenet")])
def test_weights_that_cannot_be_downloaded_are_named_with_the_remedy(encoder, weights, tmp_path):
    code = f"""
from stedm import config
from stedm.errors import UserError
from stedm.segmentation.training import build_network
options = config.Network(encoder={encoder!r}, encoder_depth=3, decoder_channels=[8, 8, 8],
                              encoder_weights={weights!r}, training=config.Training(steps=1))
try:
    build_network(options, 2)
except UserError as error:
    print(error)
"""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    assert (
        f"segmentation.encoder_weights: the weights of {encoder!r} with encoder_weights 'imagenet' cannot be"
        in done.stdout
    ), done.stderr
    assert "Go online once" in done.stdout
    assert "Traceback" not in done.stderr


def test_folder_without_network_is_named(tmp_path):
    with pytest.raises(UserError, match=r"config\.json is missing"):
        load_network(tmp_path)


def test_folder_is_all_that_predicting_a_slide_needs(tiny_study, options):
    folder = run(tiny_study, options())
    image = np.random.default_rng(0).integers(0, 256, (80, 100, 3), dtype=np.uint8)
    Image.fromarray(image).save(tiny_study / "S1.png")
    assert main(["predict", "--model", str(folder), "--out", str(tiny_study / "maps"), str(tiny_study / "S1.png")]) == 0
    with Image.open(tiny_study / "maps/S1.prediction.tif") as found:
        assert found.size == (100, 80)
        assert found.getpalette()[:6] == [0xE8, 0xA0, 0xBF, 0x6A, 0x3D, 0x9A]
