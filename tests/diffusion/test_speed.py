"""What a GPU would wait for: reads by the host within a step, and breaks in compiled graphs."""

import pytest
import torch
from hosts import counted
from tiny import CLASSES, options

from stedm import config, training
from stedm.config import Generator
from stedm.device import BatchSize
from stedm.diffusion.data import GeneratorBatches
from stedm.diffusion.model import StyleLayoutUNet
from stedm.diffusion.training import GeneratorLoss, GeneratorNetworks
from stedm.first_stage import PixelFirstStage
from stedm.processes import BatchRng
from stedm.style.canonical import Canonical
from stedm.style.encoder import StyleEncoder
from stedm.training import moving_average
from stedm.training_set import files_of


def test_the_stand_in_counts_reads(monkeypatch):
    value = torch.tensor([1.0, 0.0])
    reads = [lambda: value[0].item(), lambda: bool(value[0] > 0), lambda: value[value > 0]]
    for read in (*reads, lambda: value.tolist(), lambda: value.cpu()):
        with counted(monkeypatch) as places:
            read()
        assert places
    with counted(monkeypatch) as places:
        (value * 2).sum()
    assert not places


@pytest.mark.parametrize("preset", ["demo", "paper"])
def test_no_tensor_is_read_by_the_host_within_a_step(tiny_study, monkeypatch, preset):
    """Loss, gradients, optimizer and average of a generator; images are uint8 until they are on the device."""
    small = {
        "unet": {"channels": [16, 32], "attention": [False, False]},
        "style": {"images": 2, "encoder": {"name": "conv", "dim": 16}},
        "training": {"steps": 1, "batch_size": 2},
    }
    paper = Generator.model_validate({"preset": "paper", **small})
    chosen = options() if preset == "demo" else paper
    annotated, unannotated = (
        files_of(tiny_study / "split.csv", tiny_study / "patches", role) for role in ("annotated", "unannotated")
    )
    stage = PixelFirstStage(4)
    networks = GeneratorNetworks(chosen, len(CLASSES), stage)
    loss = GeneratorLoss(chosen, stage, Canonical(annotated + unannotated) if chosen.style.canonical else None)
    data = GeneratorBatches(chosen, annotated, unannotated, 0)
    optimizer = torch.optim.AdamW([one for one in networks.parameters() if one.requires_grad], 1e-3, fused=True)
    average = moving_average(0.9, GeneratorNetworks(chosen, len(CLASSES), stage), networks)

    def step(number):
        batch = data[number]
        assert {name: values.dtype for name, values in batch.items() if "image" in name} == {
            "images": torch.uint8,
            "style_images": torch.uint8,
        }
        rng = BatchRng(0, number)
        with counted(monkeypatch) as places:
            value = loss(networks, batch, rng)
            value.backward()
            torch.nn.utils.clip_grad_norm_(networks.parameters(), 1.0)
            optimizer.step()
            average(number)
        return places

    step(0)  # tables are made once
    assert step(1) == []


def test_losses_are_looked_at_every_so_many_steps(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "HISTORY_ROWS", 1)
    looks = []
    look = training.look
    monkeypatch.setattr(
        training, "look", lambda unseen, step, folder: (looks.append(step), look(unseen, step, folder))[1]
    )

    class Numbers(torch.utils.data.Dataset):
        def __getitem__(self, step):
            return {"x": torch.ones(2, 1)}

    chosen = config.Training(steps=120, batch_size=2, checkpoint_minutes=60)
    objective = lambda model, batch, rng: model(batch["x"]).square().mean()  # noqa: E731
    _, history = training.train(torch.nn.Linear(1, 1), objective, Numbers(), chosen, config.Device(), 0, tmp_path)
    assert looks == [0, 49, 99, 119]
    assert len(history) == 1


def denoiser(**over):
    torch.manual_seed(0)
    shape = {"latent_channels": 4, "factor": 4, "classes": 2, "channels": [16, 32], "attention": [False, True]}
    return StyleLayoutUNet(**shape | {"blocks_per_level": 1, "head_dim": 8, "style_dim": 16} | over)


def test_attention_is_scaled_dot_product_attention():
    processors = denoiser().unet.attn_processors.values()
    assert {type(one).__name__ for one in processors} == {"AttnProcessor2_0"}


def test_a_layout_of_many_channels_is_mixed_into_few():
    assert denoiser(layout_channels=16).unet.conv_in.in_channels == 4 + 16
    assert denoiser(layout_channels=64).unet.conv_in.in_channels == 4 + 48  # it has no more than that
    model = denoiser(layout_channels=16)
    layout = torch.randint(0, 2, (2, 32, 32), generator=torch.manual_seed(1))
    inputs = torch.randn(2, 4, 8, 8), torch.tensor([3, 700]), torch.randn(2, 4, 16), torch.randn(2, 16)
    noisy, time, *style = inputs
    maps = model.encode_layout(layout)
    assert maps.shape == (2, 16, 8, 8)
    torch.testing.assert_close(model(noisy, time, maps, *style), model(noisy, time, layout, *style), rtol=0, atol=0)
    assert not torch.allclose(model(noisy, time, 1 - layout, *style), model(noisy, time, layout, *style))


@pytest.mark.slow
@pytest.mark.parametrize(
    "over", [{"layout_channels": 16}, {"layout": "halved", "injection": "middle", "attention": [False, False]}]
)
def test_the_denoiser_compiles_to_one_graph(over):
    model = denoiser(**over)
    inputs = torch.randn(1, 4, 8, 8), torch.tensor([3]), torch.zeros(1, 32, 32, dtype=torch.uint8)
    style = torch.randn(1, 4, 16), torch.randn(1, 16)
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(*inputs, *style), model(*inputs, *style))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["conv", "swin_v2_t"])
def test_the_network_of_the_style_encoder_compiles_to_one_graph(name):
    network = StyleEncoder(name, 16).network.eval()
    images = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(torch.compile(network, fullgraph=True, backend="eager")(images), network(images))


def test_large_style_images_are_made_smaller_before_the_network_but_not_before_their_moments():
    torch.manual_seed(0)
    encoder = StyleEncoder("conv", 8, size=32)
    seen = []
    encoder.network.register_forward_hook(lambda module, given, result: seen.append(given[0].shape[-1]))
    images = torch.rand(1, 3, 64, 64) * 2 - 1
    whole = StyleEncoder("conv", 8)(images)
    torch.testing.assert_close(encoder(images)[:, 8:], whole[:, 8:])
    encoder(images[..., :32, :32])
    assert seen == [32, 32]


def test_a_batch_that_memory_is_too_small_for_is_halved_once_and_nothing_is_lost(caplog):
    def at_most(most):
        def function(some):
            if len(some) > most:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return [item * 2 for item in some]

        return function

    found = list(BatchSize(8).batches(range(20), at_most(4)))
    assert [value for _, values in found for value in values] == [2 * item for item in range(20)]
    assert [len(some) for some, _ in found] == [4, 4, 4, 4, 4]
    assert caplog.text.count("memory ran out with 8 items at a time: going on with 4") == 1
    with pytest.raises(torch.OutOfMemoryError):
        list(BatchSize(8).batches(range(20), at_most(3)))
