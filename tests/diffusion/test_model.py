import pytest
import torch
from torch import nn

from stedm.config import Generator
from stedm.diffusion.describe import describe
from stedm.diffusion.model import StyleLayoutUNet


def unet(**over):
    torch.manual_seed(0)
    options = {
        "latent_channels": 3,
        "factor": 2,
        "classes": 2,
        "channels": [16, 32],
        "attention": [False, True],
        "blocks_per_level": 1,
        "head_dim": 8,
        "style_dim": 16,
    }
    return StyleLayoutUNet(**(options | over)).eval()


def inputs():
    torch.manual_seed(1)
    layout = torch.randint(0, 2, (2, 16, 16))
    return torch.randn(2, 3, 8, 8), torch.tensor([3, 700]), layout, torch.randn(2, 4, 16), torch.randn(2, 16)


def test_every_pixel_of_the_layout_reaches_the_network_and_null_has_a_channel_of_its_own():
    layout = torch.tensor([[[0, 1], [255, 1]]])
    encoded = unet().encode_layout(layout)
    # pixel_unshuffle: each class in turn, then its four pixels row by row; the third "class" is the null layout
    expected = torch.tensor([1, 0, 0, 0, 0, 1, 0, 1, 0, 0, 1, 0.0])
    torch.testing.assert_close(encoded.flatten(), expected)


def test_the_papers_layout_is_halved_and_mixed_into_three_channels():
    model = unet(layout="halved", injection="middle", factor=4)
    layout = torch.zeros(1, 16, 16, dtype=torch.long)
    layout[:, :, 8:] = 1
    assert model.encode_layout(layout).shape == (1, 3, 4, 4)
    weight, bias = model.mix_layout.weight[:, :, 0, 0], model.mix_layout.bias
    torch.testing.assert_close(model.encode_layout(layout)[0, :, 0, 0], weight[:, 0] + bias)
    torch.testing.assert_close(model.encode_layout(layout)[0, :, 0, 3], weight[:, 1] + bias)


@pytest.mark.parametrize("injection", ["everywhere", "middle"])
def test_layout_style_and_time_change_the_prediction(injection):
    model = unet(injection=injection)
    noisy, time, layout, tokens, pooled = inputs()
    with torch.no_grad():
        base = model(noisy, time, layout, tokens, pooled)
        assert base.shape == noisy.shape
        assert not torch.allclose(base, model(noisy, time, 1 - layout, tokens, pooled))
        assert not torch.allclose(base, model(noisy, time, layout, tokens, -pooled))
        assert not torch.allclose(base, model(noisy, time // 2, layout, tokens, pooled))
        same = torch.allclose(base, model(noisy, time, layout, -tokens, pooled))
    assert same == (injection == "middle")  # the paper has no cross-attention


def test_style_enters_one_block_of_the_papers_network():
    model = unet(injection="middle")
    noisy, time, layout, tokens, pooled = inputs()
    seen = []
    for name, module in model.unet.named_modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda module, given, maps, name=name: seen.append((name, maps)))
    with torch.no_grad():
        for style in (pooled, -pooled):
            model(noisy, time, layout, tokens, style)
    half = len(seen) // 2
    differ = [name for (name, one), (_, other) in zip(seen[:half], seen[half:], strict=True) if not one.equal(other)]
    assert differ[:2] == ["mid_block.style_block.conv2", "mid_block.resnets.1.conv1"]  # where it enters, and the next


def test_a_model_that_is_saved_and_loaded_predicts_the_same(tmp_path):
    model = unet()
    model.save_pretrained(tmp_path)
    with torch.no_grad():
        torch.testing.assert_close(
            StyleLayoutUNet.from_pretrained(tmp_path)(*inputs()), model(*inputs()), rtol=0, atol=0
        )
    assert [path.suffix for path in tmp_path.iterdir() if "model" in path.name] == [".safetensors"]


# Counted in the reference's own code with torch.utils.flop_counter, at 512 px and an f4 first stage of 3 channels.
@pytest.mark.parametrize(("preset", "parameters", "gflop"), [("paper", 234.6e6, 872), ("improved", 253e6, 404)])
def test_presets_have_the_size_and_cost_that_they_should(preset, parameters, gflop):
    found = describe(Generator(preset=preset), classes=2, patch_size=512, factor=4, latent_channels=3)
    assert found["unet_parameters"] == pytest.approx(parameters, rel=0.01 if preset == "paper" else 0.05)
    assert found["unet_forward_gflop"] == pytest.approx(gflop, rel=0.02)
    assert found["latent"] == [3, 128, 128]
    assert (found["style_enters"] == ["unet.mid_block.style_block"]) == (preset == "paper")
