"""Publishing a model on the Hugging Face hub."""

import hashlib
from pathlib import Path
from typing import Any

from stedm import __version__
from stedm.errors import UserError
from stedm.models import GENERATOR_CODE, HUB, model_folder
from stedm.seals import SUMS, files_in, is_ours, read_sums

CARD = "README.md"
NOT_PUBLISHED = ("provenance.json",)
"""It names slides, patients' sheets and folders."""


def push(folder: Path, repository: str, *, licence: str | None, public: bool) -> str:
    """Publish the folder of a model as one commit, without `provenance.json`.

    Args:
        folder: of a generator, network or autoencoder, as it was written.
        repository: `hf:owner/name`; it is made if there is none.
        licence: of the model, as the hub calls licences (`cc-by-4.0`); None leaves what README.md says.
        public: a repository that is made is for all to see.

    Returns:
        Address of the commit.

    Raises:
        UserError: the folder was changed or is none of ours, no licence is stated, or the hub refuses it.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    found = HUB.fullmatch(repository)
    if not found or found["revision"]:
        raise UserError(f"{repository}: is no model on the hub; give hf:owner/name")
    folder = model_folder(folder, GENERATOR_CODE)
    if not is_ours(folder):
        raise UserError(
            f"{folder}: is not as a stedm command wrote it ({SUMS} is missing, or files were added); publish a model"
            " from a study's results"
        )
    changed = {CARD: card_with_licence(folder / CARD, licence)}
    names = [name for name in files_in(folder) if name not in NOT_PUBLISHED and name != CARD]
    sums = {name: read_sums(folder)[name] for name in names} | {CARD: hashlib.sha256(changed[CARD]).hexdigest()}
    changed[SUMS] = "".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items())).encode()
    files: dict[str, str | bytes] = {**{name: str(folder / name) for name in names}, **changed}
    try:
        api = HfApi()
        api.create_repo(found["repo_id"], private=not public, exist_ok=True)
        commit = api.create_commit(
            found["repo_id"],
            [CommitOperationAdd(name, content) for name, content in files.items()],
            commit_message=f"Published by stedm {__version__}",
        )
    except Exception as error:  # the hub raises a dozen types
        text = " ".join(str(error).split())[:300]
        raise UserError(
            f"{repository}: the hub refuses it ({type(error).__name__}: {text}). Log in with `hf auth login` and a"
            " token that may write there"
        ) from error
    return str(commit.commit_url)


def card_with_licence(path: Path, licence: str | None) -> bytes:
    """A model card that states a licence.

    Raises:
        UserError: it states none, and none is given.
    """
    from huggingface_hub import ModelCard

    text = path.read_text(encoding="utf-8") if path.is_file() else "# Model of a STEDM study\n"
    if not text.startswith("---\n"):
        text = f"---\nlicense: unknown\n---\n\n{text}"
    card: Any = ModelCard(text)
    card.data.license = licence or card.data.license
    if card.data.license in (None, "unknown"):
        raise UserError(
            f"{path}: states no licence; give one that whoever has the rights to the training images agrees to, such as"
            " --licence cc-by-nc-4.0"
        )
    return str(card).encode()
