"""Where an encoder's weights come from and which input they expect, against timm and smp themselves."""

import json
import os
import subprocess
import sys

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from safetensors.torch import save_file
from torchvision.transforms.v2 import functional

from stedm.errors import UserError
from stedm.segmentation.network import Normalisation, build_network

MEAN, STD = (0.7, 0.5, 0.6), (0.2, 0.25, 0.3)


@pytest.fixture
def timm_folder(tmp_path):
    """A tiny timm model in timm's local-dir format, with a mean and a deviation of its own."""
    torch.manual_seed(7)
    model = timm.create_model("test_resnet", num_classes=3)
    model.pretrained_cfg = model.pretrained_cfg | {"mean": MEAN, "std": STD}
    timm.models.save_for_hf(model, tmp_path / "weights", model_config={"num_classes": 3})
    return tmp_path / "weights", model


def weighted(options, weights, encoder="tu-test_resnet"):
    return options().model_copy(update={"encoder": encoder, "encoder_weights": str(weights)})


def test_the_mean_and_deviation_are_removed():
    images = torch.randint(0, 256, (2, 8, 8, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    scaled = functional.to_dtype(images.movedim(-1, 1), torch.float32, scale=True)
    expected = functional.normalize(scaled, list(MEAN), list(STD))
    assert torch.allclose(Normalisation(mean=MEAN, std=STD).apply(images), expected, atol=1e-6)


@pytest.mark.parametrize("depth", [3, 5])
def test_an_encoder_starts_from_a_folder_of_timm_s_format(options, timm_folder, depth):
    folder, model = timm_folder
    update = {"encoder_depth": depth, "decoder_channels": [8] * depth}
    unet, normalisation = build_network(weighted(options, folder).model_copy(update=update), 2)
    assert (normalisation.mean, normalisation.std) == (MEAN, STD)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = model.eval().forward_intermediates(images, intermediates_only=True)
        found = unet.eval().encoder(images)
    assert len(found) == depth + 1
    torch.testing.assert_close(found[1:], expected[:depth])


def test_weights_of_another_encoder_are_refused_by_name(options, timm_folder):
    with pytest.raises(UserError, match=r"are weights of test_resnet; set segmentation\.encoder to tu-test_resnet"):
        build_network(weighted(options, timm_folder[0], "tu-resnet18"), 2)
    with pytest.raises(UserError, match=r"it is 'resnet18'"):
        build_network(weighted(options, timm_folder[0], "resnet18"), 2)


def test_a_folder_without_weights_is_named_with_the_remedy(options, tmp_path):
    with pytest.raises(
        UserError, match=r"encoder_weights: '.*/nowhere' cannot be loaded .*config\.json and model\.safe"
    ):
        build_network(weighted(options, tmp_path / "nowhere"), 2)


def test_a_name_that_a_timm_encoder_does_not_have_is_refused(options):
    with pytest.raises(UserError, match=r"'tu-test_resnet' has no weights 'imagnet'; .*\./name"):
        build_network(weighted(options, "imagnet"), 2)


def test_weights_that_smp_names_are_normalised_as_their_config_says(options, tmp_path, monkeypatch):
    torch.manual_seed(3)
    encoder = smp.encoders.get_encoder("resnet18", weights=None)
    save_file(encoder.state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"mean": MEAN, "std": STD}))
    monkeypatch.setattr(smp.encoders, "hf_hub_download", lambda repo, filename, revision: str(tmp_path / filename))
    unet, normalisation = build_network(weighted(options, "imagenet", "resnet18"), 2)
    assert normalisation == Normalisation(mean=MEAN, std=STD)
    assert torch.equal(unet.encoder.conv1.weight, encoder.conv1.weight)


def test_random_weights_expect_imagenet_s_colours(options):
    assert build_network(options(), 2)[1] == Normalisation(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


@pytest.mark.parametrize("encoder", ["resnet19", "tu-resnet19"])
def test_unknown_encoder_is_named(options, encoder):
    with pytest.raises(UserError, match=rf"segmentation\.encoder: '{encoder}'.* cannot be built"):
        build_network(options().model_copy(update={"encoder": encoder}), 2)


def test_unknown_weights_are_named(options):
    with pytest.raises(UserError, match="encoder_weights 'imagnet'"):
        build_network(weighted(options, "imagnet", "resnet18"), 2)


def test_weights_that_cannot_be_downloaded_are_named_with_the_remedy(tmp_path):
    code = """
from stedm import config
from stedm.errors import UserError
from stedm.segmentation.network import build_network
asked = [("resnet18", "imagenet"), ("tu-test_resnet", "imagenet"), ("tu-test_resnet", "hf-hub:nobody/nothing")]
for encoder, weights in asked:
    options = config.Network(encoder=encoder, encoder_depth=3, decoder_channels=[8, 8, 8],
                             encoder_weights=weights, training=config.Training(steps=1))
    try:
        build_network(options, 2)
    except UserError as error:
        print(error)
"""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=300)
    lines = done.stdout.splitlines()
    assert len(lines) == 3, done.stderr
    for line, encoder in zip(lines, ("resnet18", "tu-test_resnet"), strict=False):
        start = f"segmentation.encoder_weights: the weights of {encoder!r} with encoder_weights 'imagenet' cannot be"
        assert line.startswith(start)
        assert "Go online once" in line
    assert lines[2].startswith("segmentation.encoder_weights: 'hf-hub:nobody/nothing' cannot be loaded")
    assert "hub's cache" in lines[2]
    assert "Traceback" not in done.stderr
