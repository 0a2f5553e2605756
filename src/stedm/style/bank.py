"""The style bank: the cached style embeddings of all training patches, one file per slide."""

import logging
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from stedm import config
from stedm.ahead import ahead
from stedm.device import autocast, device, device_name, made_fast, within_memory
from stedm.files import provenance, write_json, written_whole
from stedm.hdf5 import new_file, read_all
from stedm.models import check_made_for
from stedm.store import PatchFile, check_cache, open_cache
from stedm.style.canonical import Canonical, prepared
from stedm.style.encoder import StyleEncoder, load_encoder
from stedm.style.moments import Moments, slide_moments
from stedm.training import weights_fingerprint
from stedm.training_set import files_of, fingerprints

log = logging.getLogger(__name__)


@torch.no_grad()
def embed_patches(
    options: config.StyleBankOptions, split: Path, patches: Path, *, out: Path, generator: Path | None = None
) -> None:
    """Embed every patch of the training patients.

    Writes out/{slide}.h5 with `embeddings` (N, D) float32, row i for patch i of the slide's patch file, and the slide's
    moments: `mean` (3,) and `covariances` (K, 3, 3).

    Args:
        options: names the frozen encoder, and whether it sees canonical images.
        split: table of roles.
        patches: folder of patch files.
        out: folder of the bank.
        generator: folder of the trained generator, for a trainable encoder.

    Raises:
        UserError: the generator is another one, or of another split.
    """
    if generator is not None:
        check_made_for(generator, generator_name=options.generator_name, split=split.stem)
        encoder = load_encoder(generator)
    else:
        encoder = StyleEncoder(options.encoder.name, None, options.encoder.pretrained, size=options.encoder.size)
    encoder = encoder.to(device()).eval()
    files, made_by = files_of(split, patches), weights_fingerprint(encoder)
    made_fast(options.device, encoder.network)
    canonical = Canonical(files) if options.canonical else None
    with written_whole(out) as temporary:
        temporary.mkdir()
        for file in files:
            embed = within_memory(partial(embeddings_of, encoder, file, canonical, options.device))
            embeddings = [embed(images) for images in ahead(file.images())]
            with new_file(temporary / f"{file.slide}.h5") as bank:
                rows = np.concatenate(embeddings)
                bank.create_dataset("embeddings", data=rows, chunks=(1, *rows.shape[1:]), fletcher32=True)
                for name, values in slide_moments(file)._asdict().items():
                    bank.create_dataset(name, data=values[0].numpy(), chunks=values.shape[1:], fletcher32=True)
                bank.attrs.update(slide=file.slide, patches=file.fingerprint, made_by=made_by)
            log.info("%s: %d embeddings", file.slide, len(file))
        inputs = fingerprints(files) | {"encoder": made_by}
        made_from = provenance(options.model_dump(mode="json"), inputs, None, device_name())
        write_json(temporary / "provenance.json", made_from)


def embeddings_of(
    encoder: StyleEncoder, file: PatchFile, canonical: Canonical | None, options: config.Device, images: np.ndarray
) -> np.ndarray:
    """(B, D) float32 embeddings of images (B, P, P, 3) uint8 of a slide."""
    with autocast(options):
        return encoder(prepared(images, file, canonical)).float().cpu().numpy()


class StyleBank:
    """Reads embeddings and moments of a bank.

    Args:
        folder: of the bank.
        encoder: `weights_fingerprint` of the style encoder that it must come from.
    """

    def __init__(self, folder: Path, encoder: str):
        self.folder, self.encoder = folder, encoder
        self.slides: dict[str, dict[str, Tensor]] = {}

    def embeddings(self, file: PatchFile, indices: list[int]) -> Tensor:
        """(n, D) embeddings of patches of a slide.

        Raises:
            UserError: the bank was made from other patches, or by another encoder.
        """
        return self.read(file)["embeddings"][indices]

    def moments(self, file: PatchFile) -> Moments:
        """Of a slide.

        Raises:
            UserError: as `embeddings`.
        """
        return Moments(*(self.read(file)[name][None] for name in Moments._fields))

    def read(self, file: PatchFile) -> dict[str, Tensor]:
        if file.slide not in self.slides:
            with open_cache(self.folder, file.slide) as bank:
                check_cache(bank, file, self.encoder)
                names = ("embeddings", *Moments._fields)
                self.slides[file.slide] = {name: torch.from_numpy(read_all(bank[name])) for name in names}
        return self.slides[file.slide]
