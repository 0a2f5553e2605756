"""The first stage: between images and the latents that the generator works on.

`none` folds pixels into channels and standardises; `trained` is an autoencoder trained here on the patches of the
training patients; `pretrained` one from a folder or the hub. Latents have unit variance.
"""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from stedm import config
from stedm.device import autocast, device, device_name
from stedm.errors import UserError
from stedm.files import fingerprint, provenance, write_json, written_whole
from stedm.hdf5 import new_file
from stedm.images import dihedral, to_images
from stedm.splits import read_split, slides_of
from stedm.store import PatchFile, patch_file
from stedm.training import Batch, train, weights_fingerprint
from stedm.versions import VERSIONS

TRAINING_ROLES = ("annotated", "unannotated")
SCALE_PATCHES = 256
LEAVES_RESULTS_ALONE: Any = {"training": {"checkpoint_minutes", "workers"}}
"""Options that may change between two runs of one training."""
FirstStage = Any
"""`PixelFirstStage`, or an autoencoder of diffusers."""
log = logging.getLogger(__name__)


class PixelFirstStage(ModelMixin, ConfigMixin):
    """No autoencoder: pixels, standardised and folded into channels (`torch.nn.functional.pixel_unshuffle`).

    Args:
        factor: pixels along each side of a folded block.
        mean: of each colour channel of the training images in [-1, 1].
        deviation: likewise.
    """

    @register_to_config
    def __init__(self, factor: int, mean: list[float] = [0, 0, 0], deviation: list[float] = [1, 1, 1]):  # noqa: B006
        super().__init__()
        self.register_buffer("shift", torch.tensor(mean, dtype=torch.float32)[:, None, None])
        self.register_buffer("scale", torch.tensor(deviation, dtype=torch.float32)[:, None, None])


def encode(first_stage: FirstStage, images: Tensor) -> Tensor:
    """Images (B, 3, H, W) → latents (B, C, H/f, W/f) of unit variance."""
    if isinstance(first_stage, PixelFirstStage):
        return F.pixel_unshuffle((images - first_stage.shift) / first_stage.scale, first_stage.config.factor)
    encoded = first_stage.encode(images)
    latents = encoded.latent_dist.mode() if hasattr(encoded, "latent_dist") else encoded.latents
    return (latents - (first_stage.config.get("shift_factor") or 0)) * first_stage.config.scaling_factor


def decode(first_stage: FirstStage, latents: Tensor) -> Tensor:
    """Latents → images; inverse of `encode`, up to what the autoencoder loses."""
    if isinstance(first_stage, PixelFirstStage):
        return F.pixel_shuffle(latents, first_stage.config.factor) * first_stage.scale + first_stage.shift
    shift = first_stage.config.get("shift_factor") or 0
    return first_stage.decode(latents / first_stage.config.scaling_factor + shift).sample


def pixel_first_stage(options: config.NoFirstStage, files: list[PatchFile] | None) -> PixelFirstStage:
    """Pixels standardised by the training patches; as they are where the colour has been factored out (no files)."""
    if files is None:
        return PixelFirstStage(options.unshuffle)
    images = sample_images(files)
    mean, deviation = images.mean((0, 2, 3)), images.std((0, 2, 3))
    return PixelFirstStage(options.unshuffle, mean.tolist(), deviation.tolist())


def sample_images(files: list[PatchFile]) -> Tensor:
    """At most some hundred images (N, 3, P, P), evenly from slides that are evenly spaced."""
    files = files[:: -(-len(files) // SCALE_PATCHES)]
    each = max(1, SCALE_PATCHES // len(files))
    chosen = [
        file.image(int(index))
        for file in files
        for index in np.unique(np.linspace(0, len(file) - 1, min(each, len(file))).astype(int))
    ]
    return to_images(np.stack(chosen))


def training_files(split: Path, patches: Path) -> list[PatchFile]:
    """Patch files of the slides that trainings may see."""
    return [patch_file(patches, slide) for slide in sorted(slides_of(read_split(split), *TRAINING_ROLES))]


def files_by_patient(split: Path, patches: Path, role: str) -> dict[str, list[PatchFile]]:
    """Patch files of the slides that have a role, by patient; both in the order of their names."""
    result: dict[str, list[PatchFile]] = {}
    for slide in sorted(slides_of(read_split(split), role)):
        file = patch_file(patches, slide)
        result.setdefault(str(file.attributes["patient"]), []).append(file)
    return dict(sorted(result.items()))


class ImageBatches(Dataset[Batch]):
    """Item i is the batch of step i: images of patients drawn alike, turned at random."""

    def __init__(self, files: list[PatchFile], batch_size: int, seed: int):
        self.files, self.batch_size, self.seed = files, batch_size, seed

    def __getitem__(self, step: int) -> Batch:
        rng = np.random.default_rng([self.seed, step])
        images = []
        for _ in range(self.batch_size):
            file = self.files[rng.integers(len(self.files))]
            images.append(dihedral(file.image(int(rng.integers(len(file)))), int(rng.integers(8))))
        return {"images": to_images(np.stack(images))}


def train_first_stage(
    options: config.TrainedFirstStage,
    precision: config.Device,
    split: Path,
    patches: Path,
    seed: int,
    work: Path,
    out: Path,
) -> None:
    """Train an `AutoencoderKL` with the L1 and Kullback–Leibler losses on the patches of the training patients.

    Args:
        options: its shape and training.
        precision: of the training on CUDA.
        split: table of roles.
        patches: folder of patch files.
        seed: of everything random.
        work: folder for checkpoints; one inside is named by options and inputs.
        out: folder of the model, which diffusers loads: `AutoencoderKL.from_pretrained(out)`.
    """
    files = training_files(split, patches)
    inputs = {file.slide: file.fingerprint for file in files}
    torch.manual_seed(seed)
    model = AutoencoderKL(
        block_out_channels=options.channels,
        down_block_types=["DownEncoderBlock2D"] * len(options.channels),
        up_block_types=["UpDecoderBlock2D"] * len(options.channels),
        layers_per_block=1,
        latent_channels=options.latent_channels,
        norm_num_groups=min(16, *options.channels),
        mid_block_add_attention=False,
    )

    def objective(autoencoder: FirstStage, batch: Batch) -> Tensor:
        posterior = autoencoder.encode(batch["images"]).latent_dist
        drawn = autoencoder.decode(posterior.sample()).sample
        return F.l1_loss(drawn, batch["images"]) + options.kl_weight * posterior.kl().mean()

    used = options.model_dump(exclude=LEAVES_RESULTS_ALONE)
    key = fingerprint(VERSIONS["first_stage"], used, precision.model_dump(), seed, split.stem, inputs)
    batches = ImageBatches(files, options.training.batch_size, seed)
    trained: FirstStage
    trained, history = train(model, objective, batches, options.training, precision, seed, work / key)
    set_scale(trained, files)
    with written_whole(out) as temporary:
        trained.save_pretrained(temporary)
        history.to_csv(temporary / "history.csv", index=False)
        write_json(temporary / "provenance.json", provenance(options.model_dump(), inputs, seed, device_name()))


def prepare_first_stage(options: config.PretrainedFirstStage, split: Path, patches: Path, out: Path) -> None:
    """Load a pretrained autoencoder, measure the scale of its latents on the training patches, and save it with that.

    Raises:
        UserError: it cannot be loaded.
    """
    from diffusers import AutoModel

    where = {"subfolder": options.subfolder} if options.subfolder else {}
    try:
        model = AutoModel.from_pretrained(options.path, **where)
    except Exception as error:  # diffusers and the hub raise a dozen types for a wrong path or no network
        raise UserError(
            f"first_stage.path: {options.path!r} cannot be loaded ({error}). Give a folder that diffusers'"
            " save_pretrained wrote, or a hub id (needs the network, or a filled cache); see also first_stage.subfolder"
        ) from error
    files = training_files(split, patches)
    set_scale(model.to(device()).eval(), files)
    with written_whole(out) as temporary:
        model.save_pretrained(temporary)
        inputs = {file.slide: file.fingerprint for file in files}
        write_json(temporary / "provenance.json", provenance(options.model_dump(), inputs, None, device_name()))


@torch.no_grad()
def set_scale(model: FirstStage, files: list[PatchFile]) -> None:
    """Give an autoencoder the shift and scale that bring its latents to mean 0 and variance 1."""
    model.register_to_config(scaling_factor=1.0, shift_factor=0.0)
    latents = torch.cat([encode(model, batch.to(device())) for batch in sample_images(files).split(16)])
    model.register_to_config(shift_factor=latents.mean().item(), scaling_factor=1 / latents.std().item())


def load_first_stage(folder: Path) -> FirstStage:
    """The first stage that `train_first_stage` or `prepare_first_stage` wrote, for use only."""
    from diffusers import AutoModel

    return AutoModel.from_pretrained(str(folder)).to(device()).eval().requires_grad_(False)


@torch.no_grad()
def encode_latents(first_stage: Path, precision: config.Device, split: Path, patches: Path, out: Path) -> None:
    """Cache the latents of all training patches in all eight orientations.

    Writes out/{slide}.h5 with `latents` (N, 8, C, h, w) float16, orientation k as `dihedral(image, k)`.
    """
    model = load_first_stage(first_stage)
    files = training_files(split, patches)
    with written_whole(out) as temporary:
        temporary.mkdir()
        for file in tqdm(files, unit="slide", disable=None):
            with new_file(temporary / f"{file.slide}.h5") as cache:
                for index in range(len(file)):
                    views = np.stack([dihedral(file.image(index), which) for which in range(8)])
                    with autocast(precision):
                        latents = encode(model, to_images(views).to(device())).half().cpu().numpy()
                    if "latents" not in cache:
                        shape, chunk = (len(file), *latents.shape), (1, 1, *latents.shape[1:])
                        cache.create_dataset("latents", shape, "f2", chunks=chunk)
                    cache["latents"][index] = latents
            log.info("%s: latents of %d patches", file.slide, len(file))
        inputs = {file.slide: file.fingerprint for file in files} | {"first_stage": weights_fingerprint(model)}
        write_json(temporary / "provenance.json", provenance(precision.model_dump(), inputs, None, device_name()))
