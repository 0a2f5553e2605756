import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler

from stedm.config import Generator, Objective, Sampling
from stedm.diffusion.model import StyleLayoutUNet
from stedm.diffusion.pipeline import StyleLayoutPipeline, noise_schedule, sampler, set_times
from stedm.first_stage import PixelFirstStage
from stedm.style.aggregators import StyleAggregator
from stedm.style.canonical import as_lists, from_lists
from stedm.style.encoder import StyleEncoder
from stedm.style.moments import average, joined, moments_of, recolour

REFERENCE = as_lists(average(moments_of(torch.randn(8, 3, 32, 32, generator=torch.manual_seed(1)) * 0.2)))


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
        canonical={"reference": REFERENCE, "decoded": REFERENCE},
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


@torch.no_grad()
def embedded(pipeline, sets):
    """Embeddings and moments of style sets, as a style bank would have them."""
    moments = [average(moments_of(one)) for one in sets]
    reference = from_lists(REFERENCE)
    embeddings = [pipeline.style_encoder(recolour(one, own, reference)) for one, own in zip(sets, moments, strict=True)]
    return embeddings, joined(moments)


def test_an_image_does_not_depend_on_the_others_of_its_batch(pipeline):
    together = pipeline(layouts(3), styles(3), generator=seeds(1, 2, 3)).images
    alone = pipeline(layouts(3)[1:2], styles(3)[1:2], generator=seeds(2)).images
    torch.testing.assert_close(together[1:2], alone, atol=1e-4, rtol=0)


def test_embeddings_give_the_images_that_their_style_images_give(pipeline):
    embeddings, moments = embedded(pipeline, list(styles(2)))
    one = pipeline(layouts(2), styles(2), generator=seeds(1, 2)).images
    other = pipeline(layouts(2), style_embeddings=embeddings, style_moments=moments, generator=seeds(1, 2)).images
    torch.testing.assert_close(one, other, atol=1e-4, rtol=0)


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
    embeddings, moments = embedded(pipeline, sets)
    found = pipeline(layouts(2), style_embeddings=embeddings, style_moments=moments, generator=seeds(1, 2)).images
    torch.testing.assert_close(found, together, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("style_scale", "layout_scale"), [(2.5, 1), (1, 2.5), (1.5, 3)])
def test_guidance_is_the_formula_of_classifier_free_guidance(pipeline, style_scale, layout_scale):
    """One DDIM step from pure noise, worked out by hand from the branches (Ho & Salimans 2022, eq. 6)."""
    objective = Objective(prediction="sample")
    pipeline.scheduler = DDIMScheduler(**noise_schedule(objective), clip_sample=False, timestep_spacing="trailing")
    pipeline.register_to_config(canonical=None)
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
    torch.testing.assert_close(image.mean((2, 3)), torch.full((1, 3), 0.25), atol=0.05, rtol=0)


def test_generated_images_get_the_moments_of_the_styles_slide(pipeline):
    blue = average(moments_of(styles(1)[0] * 0.2 + torch.tensor([-0.3, 0, 0.4])[:, None, None], 5))
    plain = pipeline(layouts(1), styles(1), style_moments=from_lists(REFERENCE), generator=seeds(1)).images
    moved = pipeline(layouts(1), styles(1), style_moments=blue, generator=seeds(1)).images
    assert not torch.equal(plain, moved)  # style images are canonical by other moments, too
    pipeline.register_to_config(styled=False)
    unstyled = pipeline(layouts(1), generator=seeds(1)).images
    styled = recolour(unstyled, from_lists(REFERENCE), blue)
    assert (styled.mean((2, 3)) - moved.mean((2, 3))).abs().max() < 0.1


def test_without_moments_embeddings_are_not_enough(pipeline):
    embeddings, _ = embedded(pipeline, list(styles(1)))
    with pytest.raises(ValueError, match="style_moments"):
        pipeline(layouts(1), style_embeddings=embeddings)


def test_the_less_the_strength_the_more_of_the_image_is_left(pipeline, monkeypatch):
    """A network that takes all it sees for image leaves the noise that was added."""
    rates = pipeline.scheduler.alphas_cumprod.sqrt()
    monkeypatch.setattr(pipeline, "predict", lambda inputs, time, branches: [inputs / rates[time]])
    image = torch.randn(1, 3, 32, 32, generator=torch.manual_seed(3)) * 0.2
    moments = from_lists(REFERENCE)
    arguments = {"image": image, "image_moments": moments, "style_moments": moments, "num_inference_steps": 25}
    found = [
        pipeline(layouts(1), styles(1), **arguments, strength=strength, generator=seeds(1)).images
        for strength in (0.05, 0.5, 1)
    ]
    distances = [(one - image.clamp(-1, 1)).abs().mean().item() for one in found]
    assert distances == sorted(distances)
    from_noise = pipeline(layouts(1), styles(1), style_moments=moments, num_inference_steps=25, generator=seeds(1))
    torch.testing.assert_close(found[2], from_noise.images)
    with pytest.raises(ValueError, match="strength"):
        pipeline(layouts(1), styles(1), **arguments, strength=0)


def test_times_are_uniform_in_the_log_of_the_signal_to_noise_ratio():
    scheduler = sampler(Sampling(), Objective())
    set_times(scheduler, 15, torch.device("cpu"))
    rates = scheduler.alphas_cumprod[scheduler.timesteps].double()
    ratios = 0.5 * (rates / (1 - rates)).log()
    torch.testing.assert_close(ratios, torch.linspace(-4, 3, 15, dtype=torch.float64), atol=0.08, rtol=0)
    everything = len(scheduler.timesteps)
    set_times(scheduler, 15, torch.device("cpu"), strength=0.5)
    assert scheduler.timesteps[0] < 500
    assert len(scheduler.timesteps) < everything


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
