import json
import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from tiny import options, train

from stedm.config import Generator, Objective
from stedm.diffusion.data import GeneratorBatches
from stedm.diffusion.pipeline import StyleLayoutPipeline, noise_schedule
from stedm.diffusion.training import GeneratorLoss, GeneratorNetworks, loss_weights
from stedm.first_stage import PixelFirstStage
from stedm.images import dihedral, to_images
from stedm.processes import BatchRng
from stedm.store import PatchFile
from stedm.training_set import files_of


def batches(study, chosen, seed=0):
    annotated, unannotated = (
        files_of(study / "split.csv", study / "patches", role) for role in ("annotated", "unannotated")
    )
    return GeneratorBatches(chosen, annotated, unannotated, seed)


def weights(folder):
    pipeline = StyleLayoutPipeline.from_pretrained(folder)
    parts = {name: getattr(pipeline, name) for name in ("unet", "aggregator", "style_encoder")}
    return {f"{part}.{name}": value for part, module in parts.items() for name, value in module.state_dict().items()}


# what the weights of Hang et al. 2023 come to in closed form, at signal rates 0.9, 0.5, 0.1 (SNR 9, 1, 1/9), γ = 5
@pytest.mark.parametrize(
    ("prediction", "expected"),
    [("epsilon", [5 / 9, 1, 1]), ("v_prediction", [5 / 10, 1 / 2, 1 / 10]), ("sample", [5, 1, 1 / 9])],
)
def test_min_snr_weights_are_those_of_the_paper(prediction, expected):
    objective = Objective(prediction=prediction, min_snr_gamma=5, snr_floor=0)
    weights = loss_weights(objective, torch.tensor([0.9, 0.5, 0.1]), torch.tensor([0, 1, 2]))
    torch.testing.assert_close(weights, torch.tensor(expected))


def test_the_noisiest_steps_keep_a_weight():
    weights = loss_weights(Objective(), torch.tensor([0.9, 0.5, 0.1]), torch.tensor([0, 1, 2]))
    torch.testing.assert_close(weights, torch.tensor([5, 1, 0.3]))


def test_a_floor_under_the_weights_of_noise_predictions_is_refused():
    with pytest.raises(ValueError, match="snr_floor must be 0 with prediction: epsilon"):
        Objective(prediction="epsilon")


def test_without_gamma_all_steps_weigh_the_same():
    weights = loss_weights(Objective(min_snr_gamma=None), torch.tensor([0.9, 0.1]), torch.tensor([0, 1]))
    assert weights.tolist() == [1, 1]


def test_the_papers_noise_schedule_is_linear_in_the_square_root():
    scheduler = DDPMScheduler(**noise_schedule(Generator(preset="paper").objective))
    betas = np.linspace(0.0015**0.5, 0.0205**0.5, 1000) ** 2
    np.testing.assert_allclose(scheduler.betas.numpy(), betas, rtol=1e-5)


def test_half_of_a_semi_supervised_batch_has_no_layout(tiny_study):
    batch = batches(tiny_study, options(layout_dropout=0.0))[0]
    null = (batch["layout"] == 255).flatten(1).all(1)
    assert null.tolist() == [False, False, True, True]
    # unannotated slides are the brighter ones of the tiny study
    brightness = batch["images"].float().mean((1, 2, 3))
    assert (brightness[2:] > brightness[:2].max()).all()


def test_zero_shot_training_reads_annotated_patients_alone(tiny_study):
    batch = batches(tiny_study, options(data="zero_shot", layout_dropout=0.0))[0]
    assert (batch["layout"] != 255).all()
    assert batch["images"].float().mean((1, 2, 3)).max() < 127


def test_style_images_are_of_the_targets_slide(tiny_study):
    batch = batches(tiny_study, options())[3]
    colour = batch["images"].float().mean((1, 2, 3))
    torch.testing.assert_close(batch["style_images"].float().mean((1, 2, 3, 4)), colour, atol=2, rtol=0)


def test_a_batch_is_a_function_of_seed_and_step(tiny_study):
    one, same = batches(tiny_study, options()), batches(tiny_study, options())
    for name, values in one[5].items():
        assert torch.equal(values, same[5][name])
    assert not torch.equal(one[5]["images"], one[6]["images"])
    assert not torch.equal(one[5]["images"], batches(tiny_study, options(), seed=1)[5]["images"])


def test_layout_and_image_are_turned_together(tiny_study):
    data = batches(tiny_study, options(layout_dropout=0.0))
    file = files_of(tiny_study / "split.csv", tiny_study / "patches", "annotated")[0]
    for seed in range(8):
        item = data.item(file, 0, True, np.random.default_rng(seed))
        views = [dihedral(file.image(0), which) for which in range(8)]
        which = [np.array_equal(item["images"](), view) for view in views].index(True)
        np.testing.assert_array_equal(item["layout"](), dihedral(file.labels(0), which))


def test_a_frozen_autoencoder_is_neither_trained_nor_copied_nor_in_checkpoints(tiny_study, monkeypatch):
    """Kept out of the networks: their average, which is a deep copy, and their checkpoints would have it too."""
    copies = []
    monkeypatch.setattr(PixelFirstStage, "__deepcopy__", lambda self, memo: copies.append(self), raising=False)
    train(tiny_study, options(training={"steps": 1}))
    assert not copies
    (checkpoint,) = (tiny_study / "work").glob("*/step-*.pt")
    names = torch.load(checkpoint, weights_only=True)["model"]
    assert {name.split(".")[0] for name in names} == {"style", "unet"}


def test_test_patients_are_never_read(tiny_study, monkeypatch):
    opened = set()
    original = PatchFile.__init__
    monkeypatch.setattr(PatchFile, "__init__", lambda self, path: (opened.add(path.stem), original(self, path))[1])
    train(tiny_study, options(training={"steps": 1}))
    assert opened == {"A1", "A2", "U1", "U2"}


def test_the_style_encoder_learns(tiny_study):
    moved = {}
    for name, chosen in (("ours", options()), ("as_released", options(as_released=True))):
        torch.manual_seed(0)
        model = GeneratorNetworks(chosen, 2, PixelFirstStage(4))
        encoder = model.style.encoder
        start = {key: value.clone() for key, value in encoder.state_dict().items()}
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 1e-3)
        GeneratorLoss(chosen, PixelFirstStage(4))(model, batches(tiny_study, chosen)[0], BatchRng(0, 0)).backward()
        optimizer.step()
        moved[name] = [not torch.equal(value, start[key]) for key, value in encoder.state_dict().items()]
    assert all(moved["ours"])
    assert not any(moved["as_released"])


def test_a_generator_learns_its_two_colours(tiny_study):
    """The whole way: train, save, load, generate; the image has the colour of its style images."""
    folder = train(tiny_study, options(training={"steps": 60}))
    pipeline = StyleLayoutPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    files = {file.slide: file for file in files_of(tiny_study / "split.csv", tiny_study / "patches")}
    style = torch.stack([to_images(np.stack([files[name].image(i) for i in (0, 1)])) for name in ("A1", "U2")])
    layout = torch.zeros(2, 32, 32, dtype=torch.long)
    images = pipeline(layout=layout, style_images=style, generator=torch.manual_seed(0)).images
    assert images.shape == (2, 3, 32, 32)
    assert images.abs().max() <= 1
    torch.testing.assert_close(images.mean((2, 3)), style.mean((1, 3, 4)), atol=0.15, rtol=0)
    record = json.loads((folder / "provenance.json").read_text())
    assert set(record["inputs"]) == set(files)


def test_training_that_is_killed_and_resumed_ends_with_the_same_weights(tiny_study):
    chosen = options(training={"steps": 6, "checkpoint_minutes": 1e-6})
    whole = weights(train(tiny_study, chosen, "whole"))
    script = textwrap.dedent(
        f"""
        import os, signal, torch
        from pathlib import Path
        from stedm.config import Generator
        from stedm.diffusion import training
        from tiny import train
        torch.set_num_threads({torch.get_num_threads()})
        loss, calls = training.GeneratorLoss.__call__, []
        def killed(self, *arguments):
            calls.append(1)
            if len(calls) == 4:
                os.kill(os.getpid(), signal.SIGKILL)
            return loss(self, *arguments)
        training.GeneratorLoss.__call__ = killed
        options = Generator.model_validate_json({chosen.model_dump_json()!r})
        train(Path({str(tiny_study)!r}), options, "resumed", "other")
        """
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True)
    assert run.returncode == -signal.SIGKILL, run.stderr.decode()
    assert not (tiny_study / "resumed").exists()
    assert len(list((tiny_study / "other").glob("*/step-*.pt"))) > 0
    resumed = weights(train(tiny_study, chosen, "resumed", "other"))
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())


@pytest.mark.parametrize("sampler", ["none", "augmented", "nearby", "multi_patch"])
def test_every_sampler_trains_and_generates(tiny_study, sampler):
    style = {"sampler": sampler, "images": 2 if sampler == "multi_patch" else 1, "canonical": sampler != "none"}
    folder = train(tiny_study, options(style=style, training={"steps": 1}))
    pipeline = StyleLayoutPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    layout = torch.zeros(1, 32, 32, dtype=torch.uint8)
    sets = None if sampler == "none" else torch.zeros(1, 3, 3, 32, 32)
    assert pipeline(layout=layout, style_images=sets, generator=torch.manual_seed(0)).images.shape == (1, 3, 32, 32)


def test_the_papers_preset_trains_and_generates_at_a_small_size(tiny_study):
    small = {"unet": {"channels": [16, 32], "attention": [False, False]}, "sampling": {"steps": 2}}
    style = {"encoder": {"name": "conv", "dim": 16}, "images": 2}
    chosen = Generator.model_validate(
        {"preset": "paper", **small, "style": style, "training": {"steps": 1, "batch_size": 2}}
    )
    folder = train(tiny_study, chosen)
    pipeline = StyleLayoutPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    layout = torch.zeros(1, 32, 32, dtype=torch.uint8)
    images = pipeline(layout=layout, style_images=torch.zeros(1, 2, 3, 32, 32), generator=torch.manual_seed(0)).images
    assert torch.isfinite(images).all()


@pytest.mark.parametrize("sampler", ["multi_patch", "nearby", "augmented"])
def test_each_process_reads_its_own_items_of_the_batch_alone(tiny_study, monkeypatch, sampler):
    data = batches(tiny_study, options(style={"sampler": sampler, "images": 2 if sampler == "multi_patch" else 1}))
    whole = data[3]
    reads = []
    image = PatchFile.image
    monkeypatch.setattr(PatchFile, "image", lambda self, index: (reads.append(index), image(self, index))[1])
    data[3]
    alone = len(reads)
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in (0, 1):
        monkeypatch.setenv("RANK", str(rank))
        reads.clear()
        for name, values in data[3].items():
            assert torch.equal(values, whole[name][rank::2])
        assert len(reads) < alone
