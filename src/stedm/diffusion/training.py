"""Training of a generator."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler
from torch import Tensor, nn

from stedm import config
from stedm.device import device, made_fast
from stedm.diffusion.card import SAMPLES, model_card
from stedm.diffusion.data import GeneratorBatches
from stedm.diffusion.model import build_unet
from stedm.diffusion.pipeline import StyleLayoutPipeline, noise_schedule, sampler
from stedm.diffusion.samples import write_samples
from stedm.errors import UserError
from stedm.first_stage import FirstStage, PixelFirstStage, first_stage_of, load_autoencoder, pixel_first_stage
from stedm.processes import BatchRng
from stedm.seals import read_json
from stedm.store import PatchFile, check_cache, open_cache
from stedm.style.canonical import Canonical, as_lists, sample_images, seen
from stedm.style.conditioner import build_conditioner
from stedm.style.moments import average, joined, moments_of
from stedm.training import Batch, train_and_save, weights_fingerprint
from stedm.training_set import TRAINING_ROLES, files_of, fingerprints


class GeneratorNetworks(nn.Module):
    """The networks of a generator that are trained together.

    Args:
        options: the generator.
        classes: number of classes of the layout.
        first_stage: what the latents are of; not trained, and no part of this module.
        embedding_dim: D of the cached embeddings, where the style encoder is frozen and plays no part in training.
    """

    def __init__(
        self, options: config.Generator, classes: int, first_stage: FirstStage, embedding_dim: int | None = None
    ):
        super().__init__()
        self.style = build_conditioner(options.style, embedding_dim)
        if options.as_released and self.style.encoder is not None:
            self.style.encoder.requires_grad_(False)
        self.unet = build_unet(options, classes, first_stage.factor, first_stage.channels)


class GeneratorLoss:
    """The loss of a generator's networks on a batch of `GeneratorBatches`.

    Args:
        options: the generator.
        first_stage: between images and latents.
        canonical: makes images of the batch's slides canonical; None leaves them as they are.
    """

    def __init__(self, options: config.Generator, first_stage: FirstStage, canonical: Canonical | None = None):
        self.options, self.first_stage, self.canonical = options, first_stage, canonical
        self.scheduler = DDPMScheduler(**noise_schedule(options.objective))
        every = torch.arange(options.objective.timesteps)
        self.weights = loss_weights(options.objective, self.scheduler.alphas_cumprod, every).to(device())

    def __call__(self, networks: Any, batch: Batch, rng: BatchRng) -> Tensor:
        """Scalar; `rng` gives times, noise and which items have no style."""
        objective, style, size = self.options.objective, self.options.style, len(batch["layout"])
        embeddings = self.embeddings(networks, batch)
        clean = self.clean_latents(batch)
        keep = rng.uniform(size, 1, 1) >= style.dropout
        embeddings = torch.where(keep, embeddings, networks.style.null())
        tokens, pooled = networks.style(embeddings)

        time = rng.integers(objective.timesteps, size)
        noise = rng.normal(*clean.shape)
        noisy = self.scheduler.add_noise(clean, noise, time)
        prediction = networks.unet(noisy, time, batch["layout"], tokens, pooled)
        match objective.prediction:
            case "epsilon":
                target = noise
            case "sample":
                target = clean
            case _:
                target = self.scheduler.get_velocity(clean, noise, time)
        loss = F.l1_loss if objective.loss == "l1" else F.mse_loss
        each = loss(prediction.float(), target, reduction="none").mean((1, 2, 3))
        return (each * self.weights[time]).mean()

    def embeddings(self, networks: Any, batch: Batch) -> Tensor:
        """(B, n, D) embeddings of the style sets; the null embedding for a generator without style."""
        if "style_embeddings" in batch:
            return batch["style_embeddings"]
        if self.options.style.sampler == "none":
            return networks.style.null().expand(len(batch["layout"]), 1, -1)
        pixels = batch["style_images"]
        slides = batch["slide"].repeat_interleave(pixels.shape[1])
        images = seen(pixels.flatten(0, 1), slides, self.canonical).contiguous()  # convolutions round by the layout
        return networks.style.embed(images).unflatten(0, pixels.shape[:2])

    @torch.no_grad()
    def clean_latents(self, batch: Batch) -> Tensor:
        """(B, C, h, w): cached, or of the batch's images."""
        if "latents" in batch:
            return batch["latents"].float()
        return self.first_stage.encode(seen(batch["images"], batch["slide"], self.canonical))


def loss_weights(objective: config.Objective, alphas_cumprod: Tensor, time: Tensor) -> Tensor:
    """Min-SNR-γ loss weights (Hang et al. 2023, eq. 5–6) for the three predictions.

    Args:
        objective: prediction and γ; without γ all weights are 1. `snr_floor` keeps the noisiest steps of x0-prediction
            from vanishing.
        alphas_cumprod: (T,) cumulative signal rates of the schedule, in [0, 1].
        time: (B,) integer time steps.

    Returns:
        (B,) positive weights.
    """
    if objective.min_snr_gamma is None:
        return torch.ones(len(time))
    snr = alphas_cumprod[time] / (1 - alphas_cumprod[time])
    weight = snr.clamp(objective.snr_floor, objective.min_snr_gamma)
    match objective.prediction:
        case "epsilon":
            return weight / snr.clamp(min=1e-8)
        case "v_prediction":
            return weight / (snr + 1)
        case _:
            return weight


def train_generator(
    options: config.GeneratorOptions,
    split: Path,
    patches: Path,
    *,
    work: Path,
    out: Path,
    first_stage: Path | None = None,
    latents: Path | None = None,
    style_bank: Path | None = None,
    layouts: Path | None = None,
) -> None:
    """Train a generator and save it as a `StyleLayoutPipeline`.

    Args:
        options: the generator, what its first stage is, and the classes of the layout.
        split: table of roles; only annotated and unannotated patients are read.
        patches: folder of patch files.
        work: folder for checkpoints; one inside is named by options and inputs.
        out: folder of the pipeline, with history.csv and provenance.json.
        first_stage: folder of the autoencoder, with `latents` the cached latents of the patches.
        latents: see `first_stage`.
        style_bank: folder of cached style embeddings, for a frozen style encoder.
        layouts: folder of predicted layouts of the unannotated patches (`unannotated_layouts`).
    """
    generator = options.generator
    annotated, unannotated = (files_of(split, patches, role) for role in TRAINING_ROLES)
    files = annotated + unannotated
    inputs = fingerprints(files)
    for folder, network, some in (
        (latents, "first_stage", files),
        (style_bank, "encoder", files),
        (layouts, "network", unannotated),
    ):
        inputs |= {} if folder is None else cached_inputs(folder, some, network)
    canonical = Canonical(files) if generator.style.canonical else None
    if isinstance(options.first_stage, config.NoFirstStage):
        module: Any = pixel_first_stage(options.first_stage, files, canonical).to(device())
    else:
        assert first_stage is not None
        module = load_autoencoder(first_stage)
        if inputs.get("first_stage") not in (None, weights_fingerprint(module)):
            raise UserError(f"{latents}: was made by another first stage than {first_stage}; delete it and run again")
    stage = first_stage_of(module)
    torch.manual_seed(options.seed)
    dim = None if style_bank is None else embedding_dim(style_bank)
    networks = GeneratorNetworks(generator, len(options.class_names), stage, dim)
    encoder = networks.style.encoder
    made_fast(options.device, networks.unet, encoder and encoder.network)
    loss = GeneratorLoss(generator, stage, canonical)
    batches = GeneratorBatches(generator, annotated, unannotated, options.seed, latents, style_bank, layouts)

    moments = None if canonical is None else canonical_moments(canonical, module, files)

    def preview(trained: Any, folder: Path) -> None:
        # images stay canonical where there are only embeddings, which do not tell the moments of the style's slide
        known = moments if style_bank is None else None
        write_samples(pipeline_of(generator, trained, module, known), batches[0], folder / SAMPLES)

    def save(trained: Any, folder: Path) -> None:
        pipeline_of(generator, trained, module, moments).save_pretrained(folder)
        preview(trained, folder)
        (folder / "README.md").write_text(model_card(options, annotated, unannotated, stage.factor), encoding="utf-8")

    train_and_save("generator", options, networks, loss, batches, split, inputs, save, preview, work=work, out=out)


@torch.no_grad()
def canonical_moments(canonical: Canonical, module: nn.Module, files: list[PatchFile]) -> dict[str, Any]:
    """The reference, and the moments of canonical images that the first stage has encoded and decoded. Recoloured from
    those, generated images get back the sharpness that an autoencoder loses."""
    if isinstance(module, PixelFirstStage):  # loses nothing
        decoded = canonical.reference
    else:
        stage, images = first_stage_of(module), sample_images(files, canonical)
        decoded = average(joined([moments_of(stage.decode(stage.encode(some))) for some in images.split(16)]))
    return {"reference": as_lists(canonical.reference), "decoded": as_lists(decoded)}


def pipeline_of(
    options: config.Generator, networks: Any, first_stage: nn.Module, moments: dict[str, Any] | None = None
) -> StyleLayoutPipeline:
    """The pipeline of trained networks; `moments` are those of canonical images."""
    return StyleLayoutPipeline(
        unet=networks.unet,
        aggregator=networks.style.aggregator,
        scheduler=sampler(options.sampling, options.objective),
        first_stage=first_stage,
        style_encoder=networks.style.encoder,
        styled=options.style.sampler != "none",
        canonical=moments,
        null_style=options.style.null,
        num_inference_steps=options.sampling.steps,
        guidance_scale=options.sampling.guidance_scale,
        layout_guidance_scale=options.sampling.layout_guidance_scale,
        guidance_interval=list(options.sampling.guidance_interval),
        batch_size=options.sampling.batch_size,
    )


def cached_inputs(folder: Path, files: Sequence[PatchFile], network: str) -> dict[str, str]:
    """What a folder of latents or embeddings was made from.

    Args:
        folder: of the cache.
        files: the training's patches.
        network: what made it, as the folder's provenance calls it.

    Raises:
        UserError: it was made from other patches than the training's, or one of its files by another network.
    """
    made_from = read_json(folder / "provenance.json")["inputs"]
    for file in files:
        with open_cache(folder, file.slide) as cache:
            check_cache(cache, file, made_from[network])
    return made_from


def embedding_dim(bank: Path) -> int:
    """D of the embeddings in a style bank."""
    with open_cache(bank, next(bank.glob("*.h5")).stem) as file:
        return int(file["embeddings"].shape[1])
