import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler

from stedm.config import Generator, Objective, Sampling
from stedm.diffusion.model import StyleLayoutUNet
from stedm.diffusion.pipeline import StyleLayoutPipeline, noise_schedule, sampler
from stedm.first_stage import PixelFirstStage
from stedm.style.aggregators import StyleAggregator
from stedm.style.encoder import StyleEncoder
from stedm.style.moments import image_moments


@pytest.fixture
def pipeline():
    torch.manual_seed(0)
    encoder = StyleEncoder("conv", 16)
    made = StyleLayoutPipeline(
        unet=StyleLayoutUNet(48, 4, 2, [16, 32], [False, True], 1, 8, 16),
        aggregator=StyleAggregator("mean", encoder.embedding_dim, 4, 16, 2),
        scheduler=sampler(Sampling(), Objective(prediction="sample")),
        first_stage=PixelFirstStage(4),
        style_encoder=encoder,
        whiten=True,
        num_inference_steps=3,
    )
    made.set_progress_bar_config(disable=True)
    return made


def layouts(count):
    return torch.from_numpy(np.random.default_rng(0).integers(0, 2, (count, 32, 32)))


def styles(count, size=3):
    return torch.rand(count, size, 3, 32, 32, generator=torch.manual_seed(5)) * 2 - 1


def seeds(*numbers):
    return [torch.Generator().manual_seed(number) for number in numbers]


def test_an_image_does_not_depend_on_the_others_of_its_batch(pipeline):
    together = pipeline(layouts(3), styles(3), generator=seeds(1, 2, 3)).images
    alone = pipeline(layouts(3)[1:2], styles(3)[1:2], generator=seeds(2)).images
    torch.testing.assert_close(together[1:2], alone, atol=1e-4, rtol=0)


def test_embeddings_give_the_images_that_their_style_images_give(pipeline):
    with torch.no_grad():
        embeddings = pipeline.style_encoder(styles(2).flatten(0, 1)).unflatten(0, (2, 3))
    one = pipeline(layouts(2), styles(2), generator=seeds(1, 2)).images
    other = pipeline(layouts(2), style_embeddings=embeddings, generator=seeds(1, 2)).images
    torch.testing.assert_close(one, other, atol=1e-5, rtol=0)


def test_a_pipeline_that_is_saved_and_loaded_generates_the_same(pipeline, tmp_path):
    pipeline.save_pretrained(tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".bin", ".pt", ".pkl")]
    loaded = StyleLayoutPipeline.from_pretrained(tmp_path)
    loaded.set_progress_bar_config(disable=True)
    one, other = (each(layouts(1), styles(1), generator=seeds(1)).images for each in (pipeline, loaded))
    assert torch.equal(one, other)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_loads_and_generates_nearly_the_same(pipeline, tmp_path, dtype):
    pipeline.save_pretrained(tmp_path)
    loaded = StyleLayoutPipeline.from_pretrained(tmp_path, dtype=dtype)
    loaded.set_progress_bar_config(disable=True)
    images = loaded(layouts(1), styles(1), generator=seeds(1)).images
    assert images.dtype == dtype
    full = pipeline(layouts(1), styles(1), generator=seeds(1)).images
    assert (images.float() - full).abs().mean() < 0.05


@pytest.mark.parametrize("kind", ["mean", "max", "linear", "set_transformer"])
def test_a_batch_mixes_style_sets_of_different_sizes(pipeline, kind):
    torch.manual_seed(0)
    dim = pipeline.style_encoder.embedding_dim
    pipeline.aggregator = StyleAggregator(kind, dim, 4, 16, 2)
    sets = [styles(1, 1)[0], styles(1, 6)[0]]
    together = pipeline(layouts(2), sets, generator=seeds(1, 2)).images
    for index, one in enumerate(sets):
        alone = pipeline(layouts(2)[index : index + 1], one[None], generator=seeds(index + 1)).images
        torch.testing.assert_close(together[index : index + 1], alone, atol=1e-4, rtol=0)
    with torch.no_grad():
        embeddings = [pipeline.style_encoder(one) for one in sets]
    embedded = pipeline(layouts(2), style_embeddings=embeddings, generator=seeds(1, 2)).images
    torch.testing.assert_close(embedded, together, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("style_scale", "layout_scale"), [(2.5, 1), (1, 2.5), (1.5, 3)])
def test_guidance_is_the_formula_of_classifier_free_guidance(pipeline, style_scale, layout_scale):
    """One DDIM step from pure noise, worked out by hand from the branches (Ho & Salimans 2022, eq. 6)."""
    objective = Objective(prediction="sample")
    pipeline.scheduler = DDIMScheduler(**noise_schedule(objective), clip_sample=False, timestep_spacing="trailing")
    pipeline.register_to_config(whiten=False)
    scales = {"guidance_scale": style_scale, "layout_guidance_scale": layout_scale}
    found = pipeline(layouts(1), styles(1), num_inference_steps=1, **scales, generator=seeds(1)).images
    noise = torch.randn(1, 48, 8, 8, generator=torch.Generator().manual_seed(1))
    empty = torch.full_like(layouts(1), 255)
    with torch.no_grad():
        style = pipeline.aggregator(pipeline.style_encoder(styles(1)[0])[None])
        null = pipeline.aggregator(pipeline.aggregator.null.expand(1, 3, -1))
        both, unstyled, without_layout = (
            pipeline.unet(noise, torch.tensor(999), layout, *condition)
            for layout, condition in ((layouts(1), style), (layouts(1), null), (empty, style))
        )
    guided = both + (style_scale - 1) * (both - unstyled) + (layout_scale - 1) * (both - without_layout)
    expected = pipeline.first_stage.decode(guided).clamp(-1, 1)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_outside_the_guidance_interval_nothing_is_guided(pipeline):
    pipeline.register_to_config(guidance_interval=[2.0, 3.0])
    guided, plain = (
        pipeline(layouts(1), styles(1), guidance_scale=scale, layout_guidance_scale=scale, generator=seeds(1)).images
        for scale in (5, 1)
    )
    torch.testing.assert_close(guided, plain)


def test_the_colour_of_the_style_set_is_put_back(pipeline):
    torch.nn.init.zeros_(pipeline.unet.unet.conv_out.weight)  # a network that always predicts the mean image
    torch.nn.init.zeros_(pipeline.unet.unet.conv_out.bias)
    style = torch.full((1, 3, 3, 32, 32), 0.25)
    image = pipeline(layouts(1), style, generator=seeds(1)).images
    torch.testing.assert_close(image_moments(image)[:, :3], torch.full((1, 3), 0.25), atol=0.02, rtol=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "one of the two"),
        ({"style_images": styles(1), "style_embeddings": torch.zeros(1, 3, 22)}, "one of the two"),
        ({"style_images": styles(2)}, "1 layouts, but 2 style sets"),
        ({"layout": torch.zeros(1, 30, 32), "style_images": styles(1)}, "multiples of 4"),
    ],
)
def test_wrong_arguments_are_named(pipeline, arguments, message):
    with pytest.raises(ValueError, match=message):
        pipeline(**({"layout": layouts(1)} | arguments))


def test_ddim_steps_are_those_of_the_formula():
    """Song et al. 2021, eq. 12 with η = 0, against the scheduler that the preset `paper` samples with."""
    paper = Generator(preset="paper")
    scheduler = sampler(paper.sampling, paper.objective)
    scheduler.set_timesteps(paper.sampling.steps)
    times = scheduler.timesteps
    assert len(times) == 128
    sample, noise = torch.randn(2, 1, 3, 4, 4, generator=torch.manual_seed(0))
    rate = lambda time: scheduler.alphas_cumprod[time]  # noqa: E731
    # the scheduler steps back by T/n, rounded down
    before = times[10] - 1000 // 128
    clean = (sample - (1 - rate(times[10])).sqrt() * noise) / rate(times[10]).sqrt()
    expected = rate(before).sqrt() * clean + (1 - rate(before)).sqrt() * noise
    torch.testing.assert_close(scheduler.step(noise, times[10], sample).prev_sample, expected)
