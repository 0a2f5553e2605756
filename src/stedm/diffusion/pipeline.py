"""Sampling: a diffusers pipeline from layouts and styles to images."""

import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler, DiffusionPipeline, DPMSolverMultistepScheduler
from diffusers.utils import BaseOutput
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor, nn

from stedm.config import IGNORE_INDEX, Objective, Sampling
from stedm.diffusion.model import StyleLayoutUNet
from stedm.diffusion.own_code import write_code
from stedm.first_stage import FIRST_STAGES, PixelFirstStage, first_stage_of
from stedm.models import COMPONENT, GENERATOR_CODE, load_diffusers_model, loading, model_folder, read_config
from stedm.style.aggregators import StyleAggregator
from stedm.style.canonical import from_lists
from stedm.style.conditioner import StyleConditioner
from stedm.style.encoder import StyleEncoder, load_encoder
from stedm.style.moments import Moments, average, joined, moments_of, recolour

StyleSets = Tensor | Sequence[Tensor]
NETWORKS: dict[str, type] = {
    kind.__name__: kind for kind in (StyleLayoutUNet, StyleAggregator, StyleEncoder, PixelFirstStage)
}
"""Parts of a generator that are not diffusers' own, by name."""
SCHEDULERS: dict[str, Any] = {kind.__name__: kind for kind in (DDIMScheduler, DPMSolverMultistepScheduler)}
"""Samplers that a generator may have, by name."""


@dataclass
class GeneratedImages(BaseOutput):
    """images: (B, 3, H, W) float in [-1, 1]."""

    images: Tensor


class StyleLayoutPipeline(DiffusionPipeline):
    """Generates images that follow layouts in the style of example images.

        pipeline = StyleLayoutPipeline.from_pretrained("results/demo/generators/styled/n3-r0")
        images = pipeline(layout=layout, style_images=examples, generator=torch.manual_seed(0)).images

    Args:
        unet: the denoiser.
        aggregator: reduces the embeddings of a style set.
        scheduler: a diffusers scheduler.
        first_stage: decodes latents.
        style_encoder: embeds style images; None for a generator without style, or one that learned from the cached
            embeddings of a frozen encoder.
        styled: takes style.
        canonical: works on canonical images (`stedm.style.canonical`); the moments `reference`, which style images are
            recoloured to before they are embedded, and `decoded`, which generated images have before they get those of
            their style. None: works on images as they are.
        null_style: what stands for no style in guidance: `learned`, or the embedding of a grey image.
        num_inference_steps, guidance_scale, layout_guidance_scale: defaults of `__call__`.
        guidance_interval: times, between 0 and 1 (pure noise), at which there is guidance.
        batch_size: images that are generated at a time where many are wanted; None: as many as memory holds.
    """

    _optional_components = ["style_encoder"]  # noqa: RUF012 (diffusers' name and type)
    model_cpu_offload_seq = "style_encoder->aggregator->unet->first_stage"

    def __init__(
        self,
        unet: StyleLayoutUNet,
        aggregator: StyleAggregator,
        scheduler: Any,
        first_stage: nn.Module,
        style_encoder: StyleEncoder | None = None,
        styled: bool = True,
        canonical: dict | None = None,
        null_style: str = "learned",
        num_inference_steps: int = 20,
        guidance_scale: float = 1.5,
        layout_guidance_scale: float = 1.0,
        guidance_interval: list = [0.0, 1.0],  # noqa: B006 (never changed; diffusers reads the plain type)
        batch_size: int | None = None,
    ):
        super().__init__()
        self.register_modules(
            unet=unet, aggregator=aggregator, scheduler=scheduler, first_stage=first_stage, style_encoder=style_encoder
        )
        self.register_to_config(
            styled=styled,
            canonical=canonical,
            null_style=null_style,
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
            layout_guidance_scale=layout_guidance_scale,
            guidance_interval=guidance_interval,
            batch_size=batch_size,
        )

    def save_config(self, save_directory: Any, *args: Any, **options: Any) -> None:
        """Save the index of the folder, and the code with which diffusers loads it without this package."""
        super().save_config(save_directory, *args, **options)
        write_code(Path(save_directory))

    @classmethod
    def load_config(cls, *args: Any, **options: Any) -> Any:
        """The index of a folder, but with the classes that are here, so that the folder's own code is not run."""
        found = super().load_config(*args, **options)
        index = found[0] if isinstance(found, tuple) else found
        index["_class_name"] = cls.__name__
        for name, value in index.items():
            if isinstance(value, list) and value[:1] == [Path(COMPONENT).stem]:
                index[name] = [NETWORKS[value[1]].__module__, value[1]]
        return found

    @torch.no_grad()
    def __call__(
        self,
        layout: Tensor,
        style_images: StyleSets | None = None,
        style_embeddings: StyleSets | None = None,
        style_moments: Moments | None = None,
        image: Tensor | None = None,
        image_moments: Moments | None = None,
        strength: float = 1.0,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        layout_guidance_scale: float | None = None,
        generator: torch.Generator | list[torch.Generator] | None = None,
    ) -> GeneratedImages:
        """Generate one image for each layout.

        Args:
            layout: (B, H, W) integer labels; 255 where the content is left open.
            style_images: (B, n, 3, h, w) in [-1, 1], a style set for each image, any n; or, for sets of different
                sizes, B tensors (n, 3, h, w).
            style_embeddings: (B, n, D) or B tensors (n, D), in place of the images (from a style bank).
            style_moments: of the style's slides (B), which generated images get; without, those of the style images.
            image: (B, 3, H, W) in [-1, 1], images to start from instead of noise alone (SDEdit, Meng et al. 2022).
            image_moments: of their slides (B); without, their own.
            strength: how much of the way there is noise: 1, all (an image plays no part); 0, none.
            num_inference_steps: steps of the sampler.
            guidance_scale: weight s of style; 1: no guidance.
            layout_guidance_scale: weight t of the layout. A prediction p(layout, style) becomes
                p + (s - 1) (p - p(layout, null)) + (t - 1) (p - p(null, style)): classifier-free guidance (Ho &
                Salimans 2022, eq. 6) towards each condition while the other one stands.
            generator: source of noise; a list gives each image its own, so that an image does not depend on its batch.

        Returns:
            images (B, 3, H, W) in [-1, 1].

        Raises:
            ValueError: neither or both of style images and embeddings for a generator that has style; wrong shapes.
        """
        style = StyleConditioner(self.style_encoder, self.aggregator, self.config.null_style)
        if self.config.canonical and style_moments is None and style_images is not None:
            style_moments = joined([average(self.moments(one)) for one in style_images])
        sets = self.embeddings(style, layout, style_images, style_embeddings, style_moments)
        style_scale = self.config.guidance_scale if guidance_scale is None else guidance_scale
        layout_scale = self.config.layout_guidance_scale if layout_guidance_scale is None else layout_guidance_scale
        layout = layout.to(self.device)
        maps = self.unet.encode_layout(layout)
        branches = [[maps, *each_set(style, sets)]]
        weights = []
        if style_scale > 1 and self.config.styled:
            null = style.null()
            branches.append([maps, *each_set(style, [null.expand_as(one) for one in sets])])
            weights.append(style_scale - 1)
        if layout_scale > 1:
            empty = self.unet.encode_layout(torch.full_like(layout, IGNORE_INDEX))
            branches.append([empty, *branches[0][1:]])
            weights.append(layout_scale - 1)
        conditions = [torch.cat(parts) for parts in zip(*branches, strict=True)]

        factor = self.unet.config.factor
        shape = (len(layout), self.unet.config.latent_channels, layout.shape[1] // factor, layout.shape[2] // factor)
        noise = randn_tensor(shape, generator, self.device, self.unet.dtype)
        set_times(self.scheduler, num_inference_steps or self.config.num_inference_steps, self.device, strength)
        if image is None or strength == 1:
            latents = noise * self.scheduler.init_noise_sigma
        else:
            started = self.seen(image.to(self.device), image_moments).to(self.unet.dtype)
            clean = first_stage_of(self.first_stage).encode(started)
            latents = self.scheduler.add_noise(clean, noise, self.scheduler.timesteps[:1])
        guided = [self.guides(time) for time in self.scheduler.timesteps.tolist()]
        for time, here in zip(self.progress_bar(self.scheduler.timesteps), guided, strict=True):
            inputs = self.scheduler.scale_model_input(latents, time)
            these = conditions if here else [part[: len(layout)] for part in conditions]
            prediction, *without = self.predict(inputs, time, these)
            guidance = sum(weight * (prediction - other) for weight, other in zip(weights, without, strict=False))
            latents = self.scheduler.step(prediction + guidance, time, latents).prev_sample
        images = first_stage_of(self.first_stage).decode(latents.to(self.unet.dtype))
        if self.config.canonical and self.config.styled:
            if style_moments is None:
                raise ValueError("give style_moments too, which are not told by the embeddings: from the style bank")
            decoded = from_lists(self.config.canonical["decoded"])
            images = recolour(images, decoded.to(self.device), style_moments.to(self.device))
        self.maybe_free_model_hooks()
        return GeneratedImages(images=images.to(self.unet.dtype).clamp(-1, 1))

    def moments(self, images: Tensor) -> Moments:
        """Of each of some images (B, 3, H, W), in the bands of the reference."""
        return moments_of(images, len(self.config.canonical["reference"]["covariances"]))

    def seen(self, images: Tensor, moments: Moments | None) -> Tensor:
        """Images (B, 3, H, W) with these moments, or their own, as the networks see them."""
        if not self.config.canonical:
            return images
        own = self.moments(images) if moments is None else moments.to(images.device)
        return recolour(images, own, from_lists(self.config.canonical["reference"]).to(images.device))

    def predict(self, inputs: Tensor, time: Tensor, conditions: list[Tensor]) -> list[Tensor]:
        """The network's prediction (B, C, h, w) for each of several sets of layouts and styles, all in one batch."""
        count = len(conditions[0]) // len(inputs)
        return list(self.unet(torch.cat([inputs] * count), time, *conditions).to(inputs.dtype).chunk(count))

    def guides(self, time: int) -> bool:
        """Is this time inside the guidance interval?"""
        low, high = self.config.guidance_interval
        return low <= time / self.scheduler.config.num_train_timesteps <= high

    def embeddings(
        self,
        style: StyleConditioner,
        layout: Tensor,
        style_images: StyleSets | None,
        style_embeddings: StyleSets | None,
        style_moments: Moments | None,
    ) -> list[Tensor]:
        """The style embeddings (n, D) of each image's set."""
        factor = self.unet.config.factor
        if layout.ndim != 3 or layout.shape[1] % factor or layout.shape[2] % factor:
            raise ValueError(
                f"layout must be (B, H, W) with H and W multiples of {factor}; it is {tuple(layout.shape)}"
            )
        if not self.config.styled:
            return [style.null()[None]] * len(layout)
        if (style_images is None) == (style_embeddings is None):
            raise ValueError("give style_images or style_embeddings, one of the two")
        if style_images is not None:
            if style.encoder is None:
                raise ValueError("the frozen style encoder is not kept here: give style_embeddings, from its bank")
            sizes = torch.tensor([len(one) for one in style_images])
            rows = torch.arange(len(sizes)).repeat_interleave(sizes)
            own = None if style_moments is None else style_moments.of(rows)
            flat = self.seen(torch.cat(list(style_images)).to(self.device), own)
            style_embeddings = style.embed(flat).split(sizes.tolist())
        assert style_embeddings is not None
        if len(style_embeddings) != len(layout):
            raise ValueError(f"{len(layout)} layouts, but {len(style_embeddings)} style sets")
        return [one.to(self.device) for one in style_embeddings]


def load_pipeline(folder: Path) -> StyleLayoutPipeline:
    """The generator of a folder, or of `hf:owner/name`. As `StyleLayoutPipeline.from_pretrained`, but of our classes
    alone.

    Raises:
        UserError: the folder is no generator, or damaged.
    """
    folder = model_folder(folder, GENERATOR_CODE)
    index = read_config(folder, "model_index.json", {"StyleLayoutPipeline"})
    scheduler = read_config(folder / "scheduler", "scheduler_config.json", SCHEDULERS)
    parts = {
        "unet": load_diffusers_model(folder / "unet", StyleLayoutUNet),
        "aggregator": load_diffusers_model(folder / "aggregator", StyleAggregator),
        "first_stage": load_diffusers_model(folder / "first_stage", *FIRST_STAGES),
        "style_encoder": load_encoder(folder) if (folder / "style_encoder").exists() else None,
    }
    with loading(folder, "a generator"):
        parts["scheduler"] = SCHEDULERS[scheduler["_class_name"]].from_config(scheduler)
        settings = inspect.signature(StyleLayoutPipeline.__init__).parameters.keys() - {"self", *parts}
        return StyleLayoutPipeline(**parts, **{name: index[name] for name in settings})


def each_set(function: Callable[[Tensor], Iterable[Tensor]], sets: Sequence[Tensor]) -> list[Tensor]:
    """What a function of sets of one size (B, n, D) makes of sets (n, D) that differ in size, side by side."""
    return [torch.cat(parts) for parts in zip(*(function(one[None]) for one in sets), strict=True)]


LOG_SNR = -4.0, 3.0
"""Ends of the times that images are sampled at, in ½ log(ᾱ / (1 - ᾱ)): 2% of the amplitude is image, or 5% noise."""


def set_times(scheduler: Any, steps: int, device: torch.device, strength: float = 1.0) -> None:
    """Set the times of a scheduler.

    Those of DPM-Solver are uniform in the logarithm of the signal-to-noise ratio, in which its error is of third order
    (Lu et al. 2022, arXiv 2206.00927, section 3.4); those of DDIM in time, from pure noise on, as in the paper.

    Args:
        scheduler: from `sampler`.
        steps: from pure noise.
        device: of the times.
        strength: share of the time, from 0, at which sampling begins; there are as many steps fewer.

    Raises:
        ValueError: strength is not in (0, 1].
    """
    if not 0 < strength <= 1:
        raise ValueError(f"strength is {strength}; it must be above 0 and at most 1")
    total = scheduler.config.num_train_timesteps
    if isinstance(scheduler, DDIMScheduler):
        scheduler.set_timesteps(steps, device=device)
        scheduler.timesteps = scheduler.timesteps[scheduler.timesteps < strength * total]
        return
    rates = scheduler.alphas_cumprod.double()
    ratios = 0.5 * (rates / (1 - rates)).log()
    wanted = torch.linspace(*LOG_SNR, steps, dtype=torch.float64)
    times = torch.searchsorted(-ratios, -wanted).clamp(max=total - 1)
    times = times[times < strength * total].unique().flip(0)
    scheduler.set_timesteps(timesteps=times.tolist(), device=device)


def noise_schedule(objective: Objective) -> dict[str, Any]:
    """Arguments that a diffusers scheduler takes to run on the schedule of the training."""
    return {
        "num_train_timesteps": objective.timesteps,
        "beta_schedule": objective.beta_schedule,
        "beta_start": objective.beta_start,
        "beta_end": objective.beta_end,
        "prediction_type": objective.prediction,
    }


def sampler(sampling: Sampling, objective: Objective) -> Any:
    """The diffusers scheduler that samples."""
    arguments = noise_schedule(objective)
    match sampling.sampler:
        case "ddim":
            return DDIMScheduler(**arguments, clip_sample=False, set_alpha_to_one=False, timestep_spacing="trailing")
        case _:
            return DPMSolverMultistepScheduler(**arguments, timestep_spacing="trailing")
