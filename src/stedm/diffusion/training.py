"""Training of a generator."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler
from torch import Tensor, nn

from stedm import config
from stedm.checkpoint import seed_everything
from stedm.device import device, device_name
from stedm.diffusion.data import GeneratorBatches
from stedm.diffusion.model import build_unet
from stedm.diffusion.pipeline import StyleLayoutPipeline, grey_image, noise_schedule, sampler
from stedm.errors import UserError
from stedm.files import fingerprint, provenance, write_json, written_whole
from stedm.first_stage import (
    TRAINING_ROLES,
    FirstStage,
    encode,
    files_by_patient,
    load_first_stage,
    pixel_first_stage,
)
from stedm.processes import drawn, rank
from stedm.store import open_cache
from stedm.style.aggregators import StyleAggregator
from stedm.style.encoder import StyleEncoder
from stedm.style.moments import MOMENTS, remove_moments, set_moments
from stedm.training import Batch, train
from stedm.versions import VERSIONS


class GeneratorModel(nn.Module):
    """The networks of a generator that are trained together, and the loss of a batch.

    Args:
        options: the generator.
        classes: number of classes of the layout.
        first_stage: between images and latents; not trained.
        embedding_dim: D of the cached embeddings, where the style encoder is frozen and plays no part in training.
    """

    def __init__(
        self, options: config.Generator, classes: int, first_stage: FirstStage, embedding_dim: int | None = None
    ):
        super().__init__()
        self.options = options
        style = options.style
        self.style_encoder: Any = None
        if style.sampler != "none" and style.encoder.trainable:
            self.style_encoder = StyleEncoder(style.encoder.name, style.encoder.dim, style.encoder.pretrained)
            self.style_encoder.requires_grad_(not options.as_released)
            embedding_dim = self.style_encoder.embedding_dim
        self.aggregator = StyleAggregator(
            style.aggregator, embedding_dim or MOMENTS, style.images, style.encoder.dim, style.tokens
        )
        factor, channels = latent_shape(first_stage)
        self.unet = build_unet(options, classes, factor, channels)
        self.scheduler = DDPMScheduler(**noise_schedule(options.objective))
        # in a list, so that it is neither trained, nor averaged, nor in checkpoints
        self.frozen = [first_stage.to(device())]

    def forward(self, batch: Batch) -> Tensor:
        """Loss of a batch of `GeneratorBatches`; time, noise and dropout are drawn from torch's global generator."""
        size = len(batch["layout"])
        embeddings = self.embed(batch)
        moments = set_moments(embeddings.detach()) if self.options.style.whiten else None
        clean = self.clean_latents(batch, moments)
        keep = drawn(torch.rand, (size, 1, 1)) >= self.options.style.dropout
        embeddings = torch.where(keep.to(clean.device), embeddings, self.null(embeddings))
        tokens, pooled = self.aggregator(embeddings)

        time = drawn(partial(torch.randint, self.options.objective.timesteps), (size,)).to(clean.device)
        noise = drawn(torch.randn, clean.shape).to(clean.device)
        noisy = self.scheduler.add_noise(clean, noise, time)
        prediction = self.unet(noisy, time, batch["layout"], tokens, pooled)
        match self.options.objective.prediction:
            case "epsilon":
                target = noise
            case "sample":
                target = clean
            case _:
                target = self.scheduler.get_velocity(clean, noise, time)
        loss = F.l1_loss if self.options.objective.loss == "l1" else F.mse_loss
        each = loss(prediction.float(), target, reduction="none").mean((1, 2, 3))
        return (each * loss_weights(self.options.objective, self.scheduler.alphas_cumprod, time.cpu()).to(each)).mean()

    def embed(self, batch: Batch) -> Tensor:
        """(B, n, D) embeddings of the style sets; the null embedding for a generator without style."""
        if "style_embeddings" in batch:
            return batch["style_embeddings"]
        if self.options.style.sampler == "none":
            return self.aggregator.null.expand(len(batch["layout"]), 1, -1)
        images = batch["style_images"]
        return self.style_encoder(images.flatten(0, 1)).unflatten(0, images.shape[:2])

    def null(self, embeddings: Tensor) -> Tensor:
        if self.options.style.null == "learned" or self.style_encoder is None:
            return self.aggregator.null
        return self.style_encoder(grey_image(embeddings))[0]

    def clean_latents(self, batch: Batch, moments: tuple[Tensor, Tensor] | None) -> Tensor:
        if "latents" in batch:
            return batch["latents"]
        images = batch["images"] if moments is None else remove_moments(batch["images"], *moments)
        with torch.no_grad():
            return encode(self.frozen[0], images)


def latent_shape(first_stage: FirstStage) -> tuple[int, int]:
    """Factor and channels of the latents, from encoding an image."""
    with torch.no_grad():
        latent = encode(
            first_stage, torch.zeros(1, 3, 64, 64, device=next(iter(first_stage.state_dict().values())).device)
        )
    return 64 // latent.shape[-1], latent.shape[1]


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
    """
    generator, seed = options.generator, options.seed
    groups = {role: files_by_patient(split, patches, role) for role in TRAINING_ROLES}
    files = [file for group in groups.values() for some in group.values() for file in some]
    inputs = {file.slide: file.fingerprint for file in files}
    if isinstance(options.first_stage, config.NoFirstStage):
        stage: FirstStage = pixel_first_stage(options.first_stage, files, generator.style.whiten)
    else:
        assert first_stage is not None
        stage = load_first_stage(first_stage)
    seed_everything(seed)
    dim = None if style_bank is None else embedding_dim(style_bank)
    model = GeneratorModel(generator, len(options.class_names), stage, dim)
    batches = GeneratorBatches(generator, groups["annotated"], groups["unannotated"], seed, latents, style_bank)
    key = fingerprint(
        VERSIONS["generator"],
        options.identity(),
        split.stem,
        [(role, patient, file.slide) for role, group in groups.items() for patient in group for file in group[patient]],
        inputs,
        [cached_inputs(folder, inputs) for folder in (latents, style_bank) if folder is not None],
    )
    average: Any
    average, history = train(
        model, lambda module, batch: module(batch), batches, generator.training, options.device, seed, work / key
    )
    history.insert(0, "name", options.generator_name)
    if rank() > 0:
        return
    pipeline = StyleLayoutPipeline(
        unet=average.unet,
        aggregator=average.aggregator,
        scheduler=sampler(generator.sampling, generator.objective),
        first_stage=stage,
        style_encoder=average.style_encoder,
        styled=generator.style.sampler != "none",
        whiten=generator.style.whiten,
        null_style=generator.style.null,
        num_inference_steps=generator.sampling.steps,
        guidance_scale=generator.sampling.guidance_scale,
        layout_guidance_scale=generator.sampling.layout_guidance_scale,
        guidance_interval=list(generator.sampling.guidance_interval),
        batch_size=generator.sampling.batch_size,
    )
    with written_whole(out) as temporary:
        pipeline.save_pretrained(temporary)
        history.to_csv(temporary / "history.csv", index=False)
        write_json(temporary / "provenance.json", provenance(options.model_dump(), inputs, seed, device_name()))


def cached_inputs(folder: Path, inputs: dict[str, str]) -> dict[str, str]:
    """What a folder of latents or embeddings was made from.

    Raises:
        UserError: from other patches than the training's.
    """
    made_from = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))["inputs"]
    if any(made_from.get(slide) != value for slide, value in inputs.items()):
        raise UserError(f"{folder}: was made from other patches than those of this training; make it anew")
    return made_from


def embedding_dim(bank: Path) -> int:
    """D of the embeddings in a style bank."""
    with open_cache(bank, next(bank.glob("*.h5")).stem) as file:
        return int(file["embeddings"].shape[1])
