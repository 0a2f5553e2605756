import json
import os

import h5py
import numpy as np
import pytest
import torch
from damage import edited
from diffusers import AutoencoderDC, AutoencoderKL, AutoencoderTiny, UNet2DModel, VQModel
from tiny import options, train

from stedm.config import (
    Device,
    FirstStageOptions,
    LatentsOptions,
    NoFirstStage,
    PretrainedFirstStage,
    PretrainedFirstStageOptions,
    StyleBankOptions,
    TrainedFirstStage,
)
from stedm.diffusion.pipeline import StyleLayoutPipeline
from stedm.diffusion.training import GeneratorNetworks, pipeline_of
from stedm.errors import UserError
from stedm.first_stage import (
    FIRST_STAGES,
    PixelFirstStage,
    encode_latents,
    first_stage_of,
    load_autoencoder,
    pixel_first_stage,
    prepare_first_stage,
    train_first_stage,
)
from stedm.images import dihedral, to_images, to_pixels
from stedm.style.bank import StyleBank, embed_patches
from stedm.style.canonical import Canonical, prepared, sample_images
from stedm.style.encoder import StyleEncoder
from stedm.style.moments import MOMENTS
from stedm.training_set import files_of

TRAINED = TrainedFirstStage(
    kind="trained",
    channels=[16, 16, 16],
    training={"steps": 30, "batch_size": 8, "learning_rate": 3e-3, "ema_decay": 0.5},
)


def inputs(study):
    return study / "split.csv", study / "patches"


def trained(study, canonical=False):
    options = FirstStageOptions(first_stage=TRAINED, canonical=canonical, device=Device(), seed=0)
    train_first_stage(options, *inputs(study), work=study / "work", out=study / "stage")
    return study / "stage"


def encode_all(study, canonical=False):
    encode_latents(
        LatentsOptions(canonical=canonical, device=Device()), study / "stage", *inputs(study), out=study / "latents"
    )


def embed(study, chosen, **generator):
    """Fill a style bank."""
    options = StyleBankOptions(generator_name="styled", encoder=chosen.style.encoder, canonical=chosen.style.canonical)
    embed_patches(options, *inputs(study), out=study / "bank", **generator)


def test_pixels_survive_the_way_to_images_and_back():
    pixels = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    assert to_images(pixels).aminmax() == (-1, 1)
    np.testing.assert_array_equal(to_pixels(to_images(pixels)), pixels)


@pytest.mark.parametrize("canonical", [False, True])
def test_folded_pixels_have_unit_variance_and_decode_to_the_image(tiny_study, canonical):
    files = files_of(*inputs(tiny_study))
    made = Canonical(files) if canonical else None
    stage = pixel_first_stage(NoFirstStage(unshuffle=4), files, made)
    images = sample_images(files, made)
    latents = stage.encode(images)
    assert latents.shape[1:] == (stage.channels, 32 // stage.factor, 32 // stage.factor) == (48, 8, 8)
    assert latents.var((0, 2, 3)).mean().item() == pytest.approx(1, abs=1e-3)
    torch.testing.assert_close(stage.decode(latents), images, atol=1e-4, rtol=0)


def test_a_block_is_folded_into_its_cosines():
    """Haar's, for blocks of 2×2: mean, and differences from left to right, top to bottom and across."""
    block = torch.tensor([[1.0, 3.0], [5.0, 11.0]]).expand(1, 3, 2, 2)
    red = PixelFirstStage(2).encode(block)[0, :4, 0, 0]
    torch.testing.assert_close(red, torch.tensor([20.0, -8.0, -12.0, 4.0]) / 2)


def test_a_trained_autoencoder_has_latents_of_unit_variance_and_loads_in_diffusers(tiny_study):
    folder = trained(tiny_study)
    stage = first_stage_of(AutoencoderKL.from_pretrained(folder))
    images = sample_images(files_of(*inputs(tiny_study)), None)
    with torch.no_grad():
        latents = stage.encode(images)
        assert latents.shape[1:] == (4, 8, 8)
        assert latents.std().item() == pytest.approx(1, abs=0.02)
        assert latents.mean().item() == pytest.approx(0, abs=0.02)
        assert (stage.decode(latents) - images).abs().mean() < (images.mean() - images).abs().mean()


@pytest.mark.parametrize("canonical", [False, True])
def test_cached_latents_are_those_of_the_turned_images(tiny_study, canonical):
    folder = trained(tiny_study, canonical)
    encode_all(tiny_study, canonical)
    assert {path.stem for path in (tiny_study / "latents").glob("*.h5")} == {"A1", "A2", "U1", "U2"}  # none of the test
    files, stage = files_of(*inputs(tiny_study)), first_stage_of(load_autoencoder(folder))
    file, made = files[0], Canonical(files) if canonical else None
    with h5py.File(tiny_study / f"latents/{file.slide}.h5") as cached, torch.no_grad():
        assert cached["latents"].dtype == np.float16
        for which in range(8):
            expected = stage.encode(prepared(dihedral(file.image(5), which)[None], file, made))[0].numpy()
            np.testing.assert_allclose(cached["latents"][5, which], expected, atol=0.01)


LEVELS = {"block_out_channels": [8, 8, 8], "norm_num_groups": 4}
BLOCKS = {"down_block_types": ["DownEncoderBlock2D"] * 3, "up_block_types": ["UpDecoderBlock2D"] * 3}
TINY_LEVELS = {"encoder_block_out_channels": [8, 8, 8], "decoder_block_out_channels": [8, 8, 8]}
ONE_EACH = {"encoder_layers_per_block": [1] * 3, "decoder_layers_per_block": [1] * 3}
AUTOENCODERS = {
    AutoencoderKL: LEVELS | BLOCKS,
    VQModel: LEVELS | BLOCKS,
    AutoencoderTiny: TINY_LEVELS | {"num_encoder_blocks": [1] * 3, "num_decoder_blocks": [1] * 3},
    AutoencoderDC: TINY_LEVELS
    | ONE_EACH
    | {"encoder_qkv_multiscales": [[]] * 3, "decoder_qkv_multiscales": [[]] * 3, "attention_head_dim": 8},
}


def test_there_is_a_test_of_every_autoencoder():
    assert FIRST_STAGES.keys() == {PixelFirstStage, *AUTOENCODERS}


@pytest.mark.parametrize("kind", AUTOENCODERS)
def test_any_autoencoder_of_diffusers_is_a_first_stage(tiny_study, kind):
    """Random weights in a local folder stand for published ones; 3 levels are 2 halvings."""
    torch.manual_seed(0)
    original = kind(latent_channels=4, **AUTOENCODERS[kind])
    original.save_pretrained(tiny_study / "published")
    options = PretrainedFirstStage(kind="pretrained", path=str(tiny_study / "published"))
    chosen = PretrainedFirstStageOptions(first_stage=options, canonical=False)
    prepare_first_stage(chosen, *inputs(tiny_study), out=tiny_study / "stage")
    module = load_autoencoder(tiny_study / "stage")
    assert type(module) is kind
    stage = first_stage_of(module)
    assert (stage.factor, stage.channels) == (4, 4)
    images = sample_images(files_of(*inputs(tiny_study)), None)
    with torch.no_grad():
        latents = stage.encode(images)
        assert latents.shape == (len(images), 4, 8, 8)
        assert latents.mean().item() == pytest.approx(0, abs=1e-3)
        assert latents.std().item() == pytest.approx(1, abs=1e-3)
        assert stage.decode(latents).shape == images.shape
        if kind is AutoencoderTiny:  # its forward rounds latents to 8 bits
            expected = original.decode(original.encode(images[:2]).latents).sample
        else:
            expected = original(images[:2]).sample
        torch.testing.assert_close(stage.decode(latents[:2]), expected, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("kind", AUTOENCODERS)
def test_a_pipeline_saves_and_loads_its_autoencoder_in_its_own_format(tiny_study, kind):
    torch.manual_seed(0)
    module = kind(latent_channels=4, **AUTOENCODERS[kind]).eval()
    module.register_to_config(scaling_factor=2.0, shift_factor=0.5)
    networks = GeneratorNetworks(options(style={"canonical": False}), 2, first_stage_of(module))
    pipeline_of(options(style={"canonical": False}), networks, module).save_pretrained(tiny_study / "model")
    assert type(kind.from_pretrained(tiny_study / "model/first_stage")) is kind
    pipelines = [
        pipeline_of(options(style={"canonical": False}), networks, module),
        StyleLayoutPipeline.from_pretrained(tiny_study / "model"),
    ]
    found = []
    for pipeline in pipelines:
        pipeline.set_progress_bar_config(disable=True)
        arguments = torch.zeros(1, 32, 32, dtype=torch.uint8), torch.zeros(1, 2, 3, 32, 32)
        found.append(pipeline(*arguments, generator=torch.manual_seed(0)).images)
    torch.testing.assert_close(*found, atol=1e-5, rtol=0)


def test_a_model_that_is_no_autoencoder_is_named(tiny_study):
    blocks = {"down_block_types": ["DownBlock2D"] * 2, "up_block_types": ["UpBlock2D"] * 2}
    UNet2DModel(block_out_channels=[8, 8], norm_num_groups=4, **blocks).save_pretrained(tiny_study / "unet")
    stage = PretrainedFirstStageOptions(
        first_stage=PretrainedFirstStage(kind="pretrained", path=str(tiny_study / "unet")), canonical=False
    )
    with pytest.raises(UserError, match=r"is of class UNet2DModel; give one of AutoencoderKL, VQModel, .*DC"):
        prepare_first_stage(stage, *inputs(tiny_study), out=tiny_study / "stage")


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_weights_can_be_read_by_whom_the_umask_says(tiny_study, mask):
    before = os.umask(mask)
    try:
        folders = [trained(tiny_study), train(tiny_study, options(training={"steps": 1}))]
    finally:
        os.umask(before)
    modes = {path.stat().st_mode & 0o777 for folder in folders for path in folder.rglob("*.*") if path.is_file()}
    assert modes == {0o666 & ~mask}


@pytest.mark.parametrize("canonical", [False, True])
def test_a_generator_trains_on_latents_of_a_pretrained_autoencoder(tiny_study, canonical):
    """A local folder that diffusers wrote stands for one of the hub."""
    blocks = {"down_block_types": ["DownEncoderBlock2D"] * 2, "up_block_types": ["UpDecoderBlock2D"] * 2}
    AutoencoderKL(block_out_channels=[8, 8], norm_num_groups=4, **blocks).save_pretrained(tiny_study / "vae")
    stage = PretrainedFirstStage(kind="pretrained", path=str(tiny_study / "vae"))
    prepare_first_stage(
        PretrainedFirstStageOptions(first_stage=stage, canonical=canonical),
        *inputs(tiny_study),
        out=tiny_study / "stage",
    )
    encode_all(tiny_study, canonical)
    chosen = options(style={"canonical": canonical}, training={"steps": 1})
    folders = {"first_stage": tiny_study / "stage", "latents": tiny_study / "latents"}
    pipeline = StyleLayoutPipeline.from_pretrained(train(tiny_study, chosen, folders=folders, first_stage=stage))
    assert isinstance(pipeline.first_stage, AutoencoderKL)
    assert pipeline.first_stage.config.scaling_factor != AutoencoderKL().config.scaling_factor
    pipeline.set_progress_bar_config(disable=True)
    style = to_images(np.stack([files_of(*inputs(tiny_study))[-1].image(index) for index in range(4)]))[None]
    images = pipeline(torch.zeros(1, 32, 32, dtype=torch.uint8), style).images
    assert images.shape == (1, 3, 32, 32)
    if canonical:  # from the moments of decoded images to those of the style, though this autoencoder learned nothing
        torch.testing.assert_close(images.mean((2, 3)), style.mean((1, 3, 4)), atol=0.1, rtol=0)
        decoded, reference = (pipeline.config.canonical[name] for name in ("decoded", "reference"))
        assert decoded["mean"] != reference["mean"]


def test_an_autoencoder_that_is_not_there_is_named_with_the_remedy(tiny_study, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    stage = PretrainedFirstStage(kind="pretrained", path="nobody/nothing")
    with pytest.raises(UserError, match=r"first_stage\.path: 'nobody/nothing' cannot be loaded"):
        prepare_first_stage(
            PretrainedFirstStageOptions(first_stage=stage, canonical=False), *inputs(tiny_study), out=tiny_study / "x"
        )


def made_by(bank):
    """The encoder that a style bank says it is of."""
    return json.loads((bank / "provenance.json").read_text())["inputs"]["encoder"]


def test_a_frozen_encoder_fills_the_bank_first_and_the_generator_never_loads_it(tiny_study, monkeypatch):
    """A small timm model with random weights in a local folder stands for a foundation model."""
    import timm
    from safetensors.torch import save_file

    import stedm.style.encoder

    network = timm.create_model("test_convnext", num_classes=0)
    folder = tiny_study / "encoder"
    folder.mkdir()
    save_file(network.state_dict(), folder / "model.safetensors")
    settings = '{"architecture": "test_convnext", "num_classes": 0, "num_features": %d}' % network.num_features  # noqa: UP031
    (folder / "config.json").write_text(settings)
    style = {"encoder": {"name": str(folder), "trainable": False, "dim": 16}}
    chosen = options(style=style, training={"steps": 1})
    bank = tiny_study / "bank"
    embed(tiny_study, chosen)
    file = files_of(*inputs(tiny_study))[0]
    assert StyleBank(bank, made_by(bank)).embeddings(file, [0, 3]).shape == (2, network.num_features + MOMENTS)

    def refuse(*arguments):
        raise AssertionError("the encoder was made while the generator trained")

    monkeypatch.setattr(stedm.style.encoder, "from_timm", refuse)
    pipeline = StyleLayoutPipeline.from_pretrained(train(tiny_study, chosen, folders={"style_bank": bank}))
    pipeline.set_progress_bar_config(disable=True)
    of_bank = StyleBank(bank, made_by(bank))
    sets, moments = of_bank.embeddings(file, [0, 3])[None], of_bank.moments(file)
    images = pipeline(torch.zeros(1, 32, 32, dtype=torch.uint8), style_embeddings=sets, style_moments=moments).images
    assert torch.isfinite(images).all()

    folders = {"style_bank": bank, "first_stage": trained(tiny_study), "latents": tiny_study / "latents"}
    encode_all(tiny_study)
    chosen = options(style=style | {"canonical": False}, training={"steps": 1})
    on_latents = train(tiny_study, chosen, "on_latents", folders=folders, first_stage=TRAINED)
    made_from = json.loads((on_latents / "provenance.json").read_text())["inputs"]
    assert made_from.keys() == {"A1", "A2", "U1", "U2", "first_stage", "encoder"}


def test_a_bank_of_other_patches_is_refused_by_readers_and_by_training(tiny_study):
    chosen = options(training={"steps": 1})
    generator = train(tiny_study, chosen)
    embed(tiny_study, chosen, generator=generator)
    made_from = json.loads((tiny_study / "bank/provenance.json").read_text())
    assert made_from["options"] == {
        "generator_name": "styled",
        "encoder": chosen.style.encoder.model_dump(mode="json"),
        "canonical": True,
        "device": Device().model_dump(),
    }
    with edited(tiny_study / "patches/A1.h5") as file:
        file.attrs["fingerprint"] = "another"
    with pytest.raises(UserError, match="was made from other patches"):
        StyleBank(tiny_study / "bank", "").embeddings(files_of(*inputs(tiny_study))[0], [0])
    with pytest.raises(UserError, match="was made from other patches"):
        train(tiny_study, chosen, "other", folders={"style_bank": tiny_study / "bank"})


def test_a_saved_encoder_needs_neither_the_folder_nor_the_hub_it_came_from(tiny_study):
    import shutil

    import timm
    from safetensors.torch import save_file

    network = timm.create_model("test_convnext", num_classes=0)
    folder = tiny_study / "encoder"
    folder.mkdir()
    save_file(network.state_dict(), folder / "model.safetensors")
    (folder / "config.json").write_text('{"architecture": "test_convnext", "num_classes": 0, "num_features": 64}')
    encoder = StyleEncoder(str(folder), 16).eval()
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in encoder.network.state_dict().items())
    encoder.save_pretrained(tiny_study / "saved")
    shutil.rmtree(folder)
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(StyleEncoder.from_pretrained(tiny_study / "saved").eval()(images), encoder(images))
