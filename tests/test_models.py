"""Folders of models are strangers': what they name is not imported, asked for or run."""

import json
import shutil
import socket

import pytest
import segmentation_models_pytorch as smp
import tiny
import torch
from safetensors.torch import load_file, save_file

from stedm.diffusion.pipeline import load_pipeline
from stedm.errors import UserError
from stedm.files import written_whole
from stedm.first_stage import FIRST_STAGES, load_autoencoder
from stedm.models import load_pretrained
from stedm.seals import SUMS
from stedm.segmentation.network import load_network
from stedm.style.encoder import load_encoder


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Whoever asks for a connection is found out; downloads are not forbidden by the hub's own switch."""
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)

    def refused(*args, **more):
        raise AssertionError(f"asked the network: {args}")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)


@pytest.fixture(scope="module")
def generator_folder(tmp_path_factory):
    from conftest import make_tiny_study

    folder = tmp_path_factory.mktemp("generator")
    return tiny.train(make_tiny_study(folder), tiny.options(training={"steps": 1}))


@pytest.fixture(scope="module")
def network_folder(tmp_path_factory):
    network = smp.Unet("resnet18", encoder_weights=None, encoder_depth=3, decoder_channels=[16, 8, 8], classes=2)
    path = tmp_path_factory.mktemp("network") / "network"
    network.config["encoder_weights"] = "imagenet"  # as a network has that began with ImageNet's weights
    with written_whole(path) as temporary:
        tiny.save_network(network, temporary)
    return path


@pytest.fixture
def generator(generator_folder, tmp_path):
    return shutil.copytree(generator_folder, tmp_path / "generator")


@pytest.fixture
def network(network_folder, tmp_path):
    return shutil.copytree(network_folder, tmp_path / "network")


def change(path, **values):
    """A stranger's configuration: he makes the list of digests anew, or leaves it out."""
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def unlisted(folder):
    (folder / SUMS).unlink(missing_ok=True)


def test_what_we_save_is_loaded_and_nobody_is_asked(generator, network):
    assert type(load_pipeline(generator).unet).__name__ == "StyleLayoutUNet"
    assert load_encoder(generator).embedding_dim == load_pipeline(generator).style_encoder.embedding_dim
    expected = load_file(network / "model.safetensors")
    for name, value in load_network(network).unet.state_dict().items():
        torch.testing.assert_close(value, expected[name])


def test_a_flipped_bit_in_weights_is_found(generator, network):
    for folder, name in ((generator, "unet/diffusion_pytorch_model.safetensors"), (network, "model.safetensors")):
        data = bytearray((folder / name).read_bytes())
        data[-5] ^= 1
        (folder / name).write_bytes(data)
        with pytest.raises(UserError, match=rf"{folder}/{name}: is not what .* says.*makes it again"):
            (load_network if folder == network else load_pipeline)(folder)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("model_index.json", {"_class_name": "StableDiffusionPipeline"}),
        ("model_index.json", {"_class_name": ["my_pipeline", "Evil"]}),
        ("unet/config.json", {"_class_name": "UNet2DModel"}),
        ("unet/config.json", {"_class_name": "Evil"}),
        ("unet/config.json", {"channels": [10**9]}),
        ("unet/config.json", {"channels": "many"}),
        ("unet/config.json", {"more": 1, "classes": 3}),
        ("style_encoder/config.json", {"name": "hf-hub:someone/something"}),
        ("style_encoder/config.json", {"name": "local-dir:/tmp"}),
        ("style_encoder/config.json", {"name": "resnet18", "pretrained": True}),
        ("style_encoder/config.json", {"name": "resnet18"}),
        ("first_stage/config.json", {"_class_name": "FluxTransformer2DModel"}),
        ("first_stage/config.json", {"_class_name": None, "model_type": "bert", "auto_map": {"AutoModel": "x.Y"}}),
        ("scheduler/scheduler_config.json", {"_class_name": "Evil"}),
        ("scheduler/scheduler_config.json", {"beta_schedule": "evil"}),
    ],
)
def test_a_generator_that_names_something_else_is_refused(generator, name, values):
    change(generator / name, **values)
    unlisted(generator)
    with pytest.raises(UserError) as caught:
        load_pipeline(generator)
    (message,) = caught.value.messages
    assert message.startswith(str(generator)) and "\n" not in message


def test_a_library_that_a_generator_names_is_not_imported(generator, monkeypatch, tmp_path):
    (tmp_path / "evil_library.py").write_text("raise AssertionError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    change(generator / "model_index.json", unet=["evil_library", "Evil"], scheduler=["evil_library", "Evil"])
    unlisted(generator)
    load_pipeline(generator)


@pytest.mark.parametrize(
    "values",
    [
        {"_model_class": "Evil"},
        {"_model_class": "FPN"},
        {"encoder_name": "tu-hf-hub:someone/something"},
        {"encoder_name": "tu-local-dir:/tmp"},
        {"encoder_name": "no encoder"},
        {"encoder_name": ["resnet18"]},
        {"decoder_channels": [10**9, 8, 8]},
        {"decoder_channels": [32, 16, 8]},
        {"classes": 10**9},
        {"encoder_depth": 1000},
        {"encoder_depth": None},
    ],
)
def test_a_network_that_names_something_else_is_refused(network, values):
    change(network / "config.json", **values)
    unlisted(network)
    with pytest.raises(UserError) as caught:
        load_network(network)
    (message,) = caught.value.messages
    assert message.startswith(str(network)) and "\n" not in message


@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "model.pt", "pipeline.py", "x.pkl", "model.safetensors.index.bin"]
)
def test_a_pickle_or_program_next_to_the_weights_is_refused(generator, network, name):
    for folder, load in ((generator / "unet", lambda _: load_pipeline(generator)), (network, load_network)):
        (folder / name).write_bytes(b"cos\nsystem\n(S'touch /tmp/x'\ntR.")
        with pytest.raises(UserError, match=rf"holds .*{name}, which stedm never saves"):
            load(folder)


def test_a_pickle_in_place_of_the_weights_is_refused(generator, network):
    torch.save({}, network / "pytorch_model.bin")
    (network / "model.safetensors").rename(network / "model.json")
    torch.save({}, network / "model.safetensors")
    (network / "pytorch_model.bin").unlink()
    unlisted(network)
    with pytest.raises(UserError, match=rf"{network}: cannot be loaded as a segmentation network"):
        load_network(network)
    path = generator / "unet/diffusion_pytorch_model.safetensors"
    path.unlink()
    torch.save({}, path)
    unlisted(generator)
    with pytest.raises(UserError, match=rf"{generator}/unet: cannot be loaded as StyleLayoutUNet"):
        load_pipeline(generator)


@pytest.mark.parametrize("listed", [True, False])
def test_damaged_folders_end_in_one_line_for_each_file(generator, network, listed):
    """Each file cut, emptied, or gone."""
    for folder, load in ((generator, load_pipeline), (network, load_network)):
        if not listed:
            unlisted(folder)
        needed = [path for path in folder.rglob("*") if path.suffix == ".safetensors" or "config" in path.name]
        for path in [*needed, *folder.glob("model_index.json")]:
            whole = path.read_bytes()
            for left in (None, b"", whole[: len(whole) // 2], b"[]", b"null"):
                path.unlink()
                if left is not None:
                    path.write_bytes(left)
                with pytest.raises(UserError) as caught:
                    load(folder)
                assert len(caught.value.messages) == 1 and "\n" not in str(caught.value), path
                path.write_bytes(whole)
        load(folder)


def test_weights_that_are_missing_are_not_made_up(generator):
    path = generator / "aggregator/diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    weights.pop("null")
    save_file(weights, path)
    unlisted(generator)
    with pytest.raises(UserError, match="null"):
        load_pipeline(generator)


def test_a_first_stage_is_an_autoencoder_and_only_a_hub_id_asks_the_hub(generator, tmp_path):
    with pytest.raises(UserError, match=r"names the class 'StyleLayoutUNet'; .*AutoencoderKL.* is needed"):
        load_autoencoder(generator / "unet")
    with pytest.raises(UserError, match="is of class StyleLayoutUNet"):
        load_pretrained(str(generator / "unet"), None, list(FIRST_STAGES))
    for path in ("no/such/folder", "./none", "/none", "none", "../none"):
        with pytest.raises(UserError, match=r"there is no folder .*, and it is no hub id"):
            load_pretrained(path, None, list(FIRST_STAGES))
    with pytest.raises(UserError, match="cannot be loaded"):  # asks, and is refused the network
        load_pretrained("someone/something", None, list(FIRST_STAGES))
