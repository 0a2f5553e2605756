"""Feature extractors against the networks themselves, and without the network."""

from urllib.error import URLError

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from tiny import save_network

from stedm.errors import UserError
from stedm.evaluation.features import feature_extractor, features_of
from stedm.segmentation.network import Normalisation


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)


def test_without_an_evaluator_there_are_no_features_of_a_segmenter():
    assert feature_extractor("segmenter", None) is None


def test_a_segmenter_s_features_are_the_means_of_its_deepest_maps(images, tmp_path):
    torch.manual_seed(0)
    network = smp.Unet(
        "tu-resnet18", encoder_weights=None, encoder_depth=3, decoder_channels=[16, 8, 8], classes=2
    ).eval()
    mean, deviation = np.array([0.6, 0.5, 0.4]), np.array([0.1, 0.2, 0.3])
    save_network(network, tmp_path, normalisation=Normalisation(mean=tuple(mean), std=tuple(deviation)))
    prepared = torch.from_numpy((images / 255 - mean) / deviation).movedim(-1, 1).float()
    with torch.no_grad():
        expected = network.encoder(prepared)[-1].mean((2, 3)).numpy()
    extract = feature_extractor("segmenter", tmp_path)
    found = features_of([images[:2], images[2:]], extract)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_folder_that_timm_reads_gives_its_features(images, tmp_path):
    torch.manual_seed(0)
    network = timm.create_model("test_resnet", num_classes=0).eval()
    timm.models.save_for_hf(network, tmp_path, model_config={"num_classes": 0})
    extract = feature_extractor(str(tmp_path), None)
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(network), is_training=False)
    with torch.no_grad():
        size = network.pretrained_cfg["input_size"][-1]
        prepared = torch.from_numpy(images).movedim(-1, 1).float() / 255
        prepared = torch.nn.functional.interpolate(prepared, (size, size), mode="bicubic", antialias=True)
        expected = network(torch.stack([transform.transforms[-1](one) for one in prepared])).numpy()
    np.testing.assert_allclose(extract(images), expected, atol=1e-3)


def test_inception_that_cannot_be_downloaded_is_a_message_with_a_remedy(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def offline(*arguments, **named):
        raise URLError("no network")

    monkeypatch.setattr("torch.hub.urlopen", offline)
    with pytest.raises(UserError) as error:
        feature_extractor("inception", None)
    (message,) = error.value.messages
    assert "no network" in message
    assert "weights-inception-2015-12-05-6726825d.pth" in message
    assert str(tmp_path / "hub/checkpoints") in message


def test_a_model_that_is_nowhere_is_a_message_with_a_remedy():
    with pytest.raises(UserError, match=r"hf-hub:nobody/nothing.*or a folder with config\.json"):
        feature_extractor("hf-hub:nobody/nothing", None)
