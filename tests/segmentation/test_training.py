import json
import os
import shutil
import signal
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from PIL import Image

from stedm import config, store
from stedm.cli import main
from stedm.errors import Interrupted, UserError
from stedm.segmentation.data import Batches
from stedm.segmentation.network import Normalisation, load_network, predict_probabilities
from stedm.segmentation.training import train_network
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
    return {name: value.clone() for name, value in load_network(folder).unet.state_dict().items()}


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
    mean, std = Normalisation().mean, Normalisation().std
    scaled = (images / 255 - np.array(mean)) / np.array(std)  # as README.md of the folder says
    with torch.no_grad():
        expected = network(torch.tensor(scaled, dtype=torch.float32).movedim(-1, 1)).softmax(1).numpy()
    probabilities = predict_probabilities(load_network(folder), images)
    assert probabilities.dtype == np.float32
    assert probabilities.shape == (3, 2, 32, 32)
    assert np.allclose(probabilities, expected, atol=1e-5)
    assert np.allclose(probabilities.sum(1), 1, atol=1e-5)
    assert f"mean {mean} and std\n{std}" in (folder / "README.md").read_text(encoding="utf-8")


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
    run(tiny_study, options(), REAL.model_copy(update={"augmentation": "stain"}))
    assert folders() == 4
    make_slide("A1", 7, 10)
    run(tiny_study, options())
    assert folders() == 5


def test_patches_of_arms_with_synthetic_images_come_from_their_shards(tiny_study, options, make_slide):
    image = np.full((32, 32, 3), 200, np.uint8)
    images = [Generated(number, image, np.zeros((32, 32), np.uint8), 0) for number in range(9)]
    shard = tiny_study / "0.h5"
    write_shard(shard, images, 32, CLASSES, {"source": "styled", "split": "split", "styled": True})
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


def test_network_from_published_weights_needs_them_no_more_and_expects_their_colours(tiny_study, options):
    published = tiny_study / "weights"
    model = timm.create_model("test_resnet", num_classes=3)
    model.pretrained_cfg = model.pretrained_cfg | {"mean": (0.7, 0.5, 0.6), "std": (0.2, 0.25, 0.3)}
    timm.models.save_for_hf(model, published, model_config={"num_classes": 3})
    chosen = options(steps=1, learning_rate=1e-9).model_copy(update={"encoder_weights": str(published)})
    folder = run(tiny_study, chosen)
    inputs = json.loads((folder / "provenance.json").read_text())["inputs"]
    shutil.rmtree(published)
    network = load_network(folder)
    assert torch.allclose(network.unet.encoder.model.conv1[0].weight, model.conv1[0].weight, atol=1e-6)
    images = store.PatchFile(tiny_study / "patches/T1.h5").file["imgs"][:3]
    scaled = torch.from_numpy((images / 255 - np.array((0.7, 0.5, 0.6))) / np.array((0.2, 0.25, 0.3))).float()
    with torch.no_grad():
        expected = network.unet(scaled.movedim(-1, 1)).softmax(1).numpy()
    assert np.allclose(predict_probabilities(network, images), expected, atol=1e-5)
    assert set(inputs) == {"A1", "A2", "encoder_weights"}


def test_an_arm_may_start_from_random_weights_whatever_the_others_do(tiny_study, options, tmp_path):
    published = options(steps=1, learning_rate=1e-9).model_copy(update={"encoder_weights": str(tmp_path / "nowhere")})
    folder = run(tiny_study, published, config.ArmData(random_weights=True))
    plain = run(tiny_study, options(steps=1, learning_rate=1e-9), out="plain")
    for name, value in weights(plain).items():
        torch.testing.assert_close(weights(folder)[name], value, msg=name)


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
