"""The first stage: between images and the latents that the generator works on.

`none` folds pixels into channels and scales them; `trained` is an autoencoder trained here on the patches of the
training patients; `pretrained` one from a folder or the hub. Latents have unit variance.
"""

import logging
from collections.abc import Callable
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderDC, AutoencoderKL, AutoencoderTiny, ConfigMixin, ModelMixin, VQModel
from diffusers.configuration_utils import register_to_config
from scipy.fft import dct
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from stedm import config
from stedm.device import autocast, default_workers, device, device_name
from stedm.files import provenance, readable, write_json, written_whole
from stedm.hdf5 import new_file
from stedm.images import dihedral
from stedm.models import COMPONENT, load_diffusers_model, load_pretrained, model_folder
from stedm.processes import BatchRng, own_items
from stedm.store import PatchFile
from stedm.style.canonical import Canonical, prepared, sample_images, seen
from stedm.training import Batch, train_and_save, weights_fingerprint
from stedm.training_set import PatchSampler, files_of, fingerprints

LARGEST_FACTOR = 32
"""Pixels of a folded block's side: its transform is a matrix of the fourth power of it."""
DECODED_AT_ONCE = 8
log = logging.getLogger(__name__)


class FirstStage(Protocol):
    """Between images and latents of unit variance. Make it with `first_stage_of`."""

    @property
    def factor(self) -> int:
        """Pixels of the image along each side of one latent pixel."""

    @property
    def channels(self) -> int:
        """Channels of the latents."""

    def encode(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] → (B, channels, H / factor, W / factor)."""

    def decode(self, latents: Tensor) -> Tensor:
        """Inverse of `encode`, up to what the autoencoder loses."""


class PixelFirstStage(ModelMixin, ConfigMixin):
    """No autoencoder: blocks of pixels, as the coefficients of their discrete cosine transform.

    Coefficient c_i becomes c_i / √(σ_i σ̄), with its standard deviation σ_i over the training patches and the mean σ̄ of
    all σ_i. This is half-way between no scaling, where differences between neighbouring pixels are so small that the
    network's error drowns the finest texture, and unit variance, where texture is all that it learns.

    Args:
        factor: pixels along each side of a block.
        mean: of each colour channel of the training images in [-1, 1].
        deviation: what each of the 3 · factor² coefficients (channel, vertical and horizontal frequency) is divided by.
    """

    @register_to_config
    def __init__(
        self,
        factor: int,
        mean: list[float] = [0, 0, 0],  # noqa: B006
        deviation: list[float] | None = None,
    ):
        super().__init__()
        if not 1 <= factor <= LARGEST_FACTOR:
            raise ValueError(f"blocks of {factor} px; 1 to {LARGEST_FACTOR} can be folded")
        self.factor, self.channels = factor, 3 * factor**2
        cosines = torch.from_numpy(dct(np.eye(factor), axis=0, norm="ortho"))
        self.register_buffer("cosines", torch.kron(cosines, cosines).float())
        self.register_buffer("shift", torch.tensor(mean, dtype=torch.float32)[:, None, None])
        scale = torch.ones(self.channels) if deviation is None else torch.tensor(deviation, dtype=torch.float32)
        self.register_buffer("scale", scale[:, None, None])

    @torch.autocast("cuda", enabled=False)  # eight bits of bf16 are fewer than those of a pixel
    def encode(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) → (B, 3 · f², H/f, W/f)."""
        blocks = F.pixel_unshuffle(images - self.shift, self.factor).unflatten(1, (3, -1))
        return torch.einsum("ij,bcjhw->bcihw", self.cosines, blocks).flatten(1, 2) / self.scale

    @torch.autocast("cuda", enabled=False)
    def decode(self, latents: Tensor) -> Tensor:
        """Inverse of `encode`."""
        coefficients = (latents * self.scale).unflatten(1, (3, -1))
        blocks = torch.einsum("ji,bcjhw->bcihw", self.cosines, coefficients).flatten(1, 2)
        return F.pixel_shuffle(blocks, self.factor) + self.shift


class Autoencoder:
    """An autoencoder of diffusers, whose own settings say how its latents are shifted and scaled.

    Args:
        module: the autoencoder.
        levels: its setting that lists the channels of each level, the next one of half the size.
        latents: takes the latents out of what its `encode` returns.
    """

    def __init__(self, module: Any, levels: str, latents: Callable[[Any], Tensor]):
        self.module, self.latents = module, latents
        self.factor: int = 2 ** (len(module.config[levels]) - 1)
        self.channels: int = module.config.latent_channels

    def encode(self, images: Tensor) -> Tensor:
        return (self.latents(self.module.encode(images)) - self.shift) * self.module.config.scaling_factor

    def decode(self, latents: Tensor) -> Tensor:
        """In slices: at full size the decoder's maps take more memory than all else."""
        parts = (latents / self.module.config.scaling_factor + self.shift).split(DECODED_AT_ONCE)
        return torch.cat([self.module.decode(part).sample for part in parts])

    @property
    def shift(self) -> float:
        return self.module.config.get("shift_factor") or 0.0


FIRST_STAGES: dict[type, Callable[[Any], FirstStage]] = {
    PixelFirstStage: lambda module: module,
    AutoencoderKL: partial(
        Autoencoder, levels="block_out_channels", latents=lambda encoded: encoded.latent_dist.mode()
    ),
    VQModel: partial(Autoencoder, levels="block_out_channels", latents=attrgetter("latents")),
    AutoencoderTiny: partial(Autoencoder, levels="encoder_block_out_channels", latents=attrgetter("latents")),
    AutoencoderDC: partial(Autoencoder, levels="encoder_block_out_channels", latents=attrgetter("latent")),
}
"""How each class that a folder's config.json may name becomes a first stage."""


def first_stage_of(module: nn.Module) -> FirstStage:
    """A `PixelFirstStage` or an autoencoder of diffusers, as it is loaded and saved, as a first stage."""
    # by name: diffusers runs a generator's own code once for each load, which makes the class anew
    kinds = {kind.__name__: make for kind, make in FIRST_STAGES.items()}
    return kinds[type(module).__name__](module)


def pixel_first_stage(
    options: config.NoFirstStage, files: list[PatchFile], canonical: Canonical | None
) -> PixelFirstStage:
    """Pixels with the statistics of the training patches, canonical if asked for: coefficients are scaled half-way to
    one deviation, and latents have unit variance."""
    images = sample_images(files, canonical)
    mean = images.mean((0, 2, 3)).tolist()
    deviation = PixelFirstStage(options.unshuffle, mean).to(images.device).encode(images).std((0, 2, 3))
    return PixelFirstStage(options.unshuffle, mean, (deviation * deviation.mean()).sqrt().tolist())


class ImageBatches(Dataset[Batch]):
    """Item i is this process's share of the batch of step i.

    `images` (B, P, P, 3) uint8 of all patients alike, turned at random, and `slide` (B,), the numbers of their files.
    """

    def __init__(self, files: list[PatchFile], batch_size: int, seed: int):
        self.patches = PatchSampler(files, lambda file: np.ones(len(file), bool))
        self.number = {file.slide: number for number, file in enumerate(files)}
        self.batch_size, self.seed = batch_size, seed

    def __getitem__(self, step: int) -> Batch:
        rng = np.random.default_rng([self.seed, step])
        chosen = own_items([(*self.patches.sample(rng), int(rng.integers(8))) for _ in range(self.batch_size)])
        images = [dihedral(file.image(index), which) for file, index, which in chosen]
        numbers = [self.number[file.slide] for file, _, _ in chosen]
        return {"images": torch.from_numpy(np.stack(images)), "slide": torch.tensor(numbers)}


def train_first_stage(options: config.FirstStageOptions, split: Path, patches: Path, *, work: Path, out: Path) -> None:
    """Train an `AutoencoderKL` with the L1 and Kullback–Leibler losses on the patches of the training patients.

    Args:
        options: its shape and training.
        split: table of roles.
        patches: folder of patch files.
        work: folder for checkpoints; one inside is named by options and inputs.
        out: folder of the model, which diffusers loads: `AutoencoderKL.from_pretrained(out)`.
    """
    stage = options.first_stage
    files = files_of(split, patches)
    canonical = Canonical(files) if options.canonical else None
    torch.manual_seed(options.seed)
    model = AutoencoderKL(
        block_out_channels=stage.channels,
        down_block_types=["DownEncoderBlock2D"] * len(stage.channels),
        up_block_types=["UpDecoderBlock2D"] * len(stage.channels),
        layers_per_block=1,
        latent_channels=stage.latent_channels,
        norm_num_groups=min(16, *stage.channels),
        mid_block_add_attention=False,
    )

    def objective(autoencoder: Any, batch: Batch, rng: BatchRng) -> Tensor:
        original = seen(batch["images"], batch["slide"], canonical)
        posterior = autoencoder.encode(original).latent_dist
        noise = rng.normal(*posterior.mean.shape).to(posterior.mean)
        images = autoencoder.decode(posterior.mean + posterior.std * noise).sample
        return F.l1_loss(images, original) + stage.kl_weight * posterior.kl().mean()

    def save(trained: nn.Module, folder: Path) -> None:
        save_scaled(trained, sample_images(files, canonical), folder)

    batches = ImageBatches(files, stage.training.batch_size, options.seed)
    inputs = fingerprints(files)
    train_and_save("first_stage", options, model, objective, batches, split, inputs, save, work=work, out=out)


def prepare_first_stage(options: config.PretrainedFirstStageOptions, split: Path, patches: Path, *, out: Path) -> None:
    """Load a pretrained autoencoder, measure the scale of its latents on the training patches, and save it with that.

    Raises:
        UserError: it cannot be loaded, or is none.
    """
    stage = options.first_stage
    model = load_pretrained(stage.path, stage.subfolder, [kind for kind in FIRST_STAGES if kind is not PixelFirstStage])
    files = files_of(split, patches)
    with written_whole(out) as folder:
        images = sample_images(files, Canonical(files) if options.canonical else None)
        save_scaled(model.to(device()).eval(), images, folder)
        readable(folder)
        made_from = provenance(options.model_dump(mode="json"), fingerprints(files), None, device_name())
        write_json(folder / "provenance.json", made_from)


@torch.no_grad()
def save_scaled(module: Any, images: Tensor, folder: Path) -> None:
    """Save an autoencoder with the shift and scale that bring its latents of images (N, 3, P, P) to mean 0 and variance
    1."""
    module.register_to_config(scaling_factor=1.0, shift_factor=0.0)
    first_stage = first_stage_of(module)
    latents = torch.cat([first_stage.encode(batch) for batch in images.split(16)])
    module.register_to_config(shift_factor=latents.mean().item(), scaling_factor=1 / latents.std().item())
    module.save_pretrained(folder)


def load_autoencoder(folder: Path) -> Any:
    """The autoencoder that `train_first_stage` or `prepare_first_stage` wrote, for use only.

    Raises:
        UserError: the folder holds another model, or is damaged.
    """
    folder = model_folder(folder, code=[COMPONENT])
    return load_diffusers_model(folder, *FIRST_STAGES).to(device()).eval().requires_grad_(False)


class Views(Dataset[Tensor]):
    """Item i is the eight orientations (8, P, P, 3) uint8 of patch i, counted over the files."""

    def __init__(self, files: list[PatchFile]):
        self.places = [(file, index) for file in files for index in range(len(file))]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, number: int) -> Tensor:
        file, index = self.places[number]
        image = file.image(index)
        return torch.from_numpy(np.stack([dihedral(image, which) for which in range(8)]))


@torch.no_grad()
def encode_latents(options: config.LatentsOptions, model: Path, split: Path, patches: Path, *, out: Path) -> None:
    """Cache the latents of all training patches in all eight orientations.

    Writes out/{slide}.h5 with `latents` (N, 8, C, h, w) float16, orientation k as `dihedral(image, k)`.
    """
    module = load_autoencoder(model)
    first_stage, files, made_by = first_stage_of(module), files_of(split, patches), weights_fingerprint(module)
    canonical = Canonical(files) if options.canonical else None
    views = iter(
        DataLoader(Views(files), batch_size=None, num_workers=default_workers(), pin_memory=torch.cuda.is_available())
    )
    with written_whole(out) as temporary:
        temporary.mkdir()
        for file in tqdm(files, unit="slide", disable=None):
            with new_file(temporary / f"{file.slide}.h5") as cache:
                cache.attrs.update(slide=file.slide, patches=file.fingerprint, made_by=made_by)
                for index in range(len(file)):
                    with autocast(options.device):
                        latents = first_stage.encode(prepared(next(views), file, canonical)).half().cpu().numpy()
                    if "latents" not in cache:
                        shape, chunk = (len(file), *latents.shape), (1, 1, *latents.shape[1:])
                        cache.create_dataset("latents", shape, "f2", chunks=chunk, fletcher32=True)
                    cache["latents"][index] = latents
            log.info("%s: latents of %d patches", file.slide, len(file))
        inputs = fingerprints(files) | {"first_stage": made_by}
        made_from = provenance(options.model_dump(mode="json"), inputs, None, device_name())
        write_json(temporary / "provenance.json", made_from)
