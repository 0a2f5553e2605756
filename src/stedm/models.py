"""Loading models from folders, our own or strangers': only what we save, from safetensors alone, running no code.

What a folder's configuration names is compared with what is expected before any library reads it: libraries import the
classes that it names, and ask the hub for what they do not find. The hub is asked for the whole folder, and only where
its name says so (`hf:owner/name`).
"""

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from stedm.errors import UserError
from stedm.seals import SUMS, check_folder_unchanged, files_in, read_json

ENDINGS = (".safetensors", ".json", ".csv", ".md", ".png")
"""Of what we save. Weights in any other form are pickles, which are programs, or could be taken for the weights."""
CODE, COMPONENT = "pipeline.py", "component.py"
"""A generator's own code, for diffusers (`stedm.diffusion.own_code`), in its folder and in those of its networks."""
GENERATOR_CODE = (CODE, *(f"{name}/{COMPONENT}" for name in ("unet", "aggregator", "first_stage", "style_encoder")))
HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")
HUB = re.compile(rf"hf:(?P<repo_id>{HUB_ID.pattern})(@(?P<revision>[\w.-]+))?")
"""A model on the Hugging Face hub: `hf:owner/name`, or `hf:owner/name@revision`."""


def model_folder(folder: Path, code: Sequence[str] = ()) -> Path:
    """The folder of a model, or a copy of one on the hub. It is refused if it is not there, has been changed, or holds
    what no model of ours has.

    Args:
        folder: it, or `hf:owner/name`.
        code: files with code that a model of this kind has, which nobody runs.

    Raises:
        UserError: all that is wrong with it.
    """
    folder = local_folder(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder; name the folder of a model, or hf:owner/name")
    check_folder_unchanged(folder)
    others = [
        name
        for name in files_in(folder)
        if not (folder / name).is_file() or not (Path(name).suffix in ENDINGS or name in code)
    ]
    if others:
        raise UserError(
            f"{folder}: holds {', '.join(sorted(others)[:5])}, which stedm never saves with a model; take a folder"
            f" that has files {', '.join(ENDINGS)} and {SUMS} alone"
        )
    return folder


def local_folder(folder: Path) -> Path:
    """A folder itself; of `hf:owner/name`, a copy in the hub's cache, of the files that models of ours have.

    Raises:
        UserError: there is no such model on the hub, or no connection.
    """
    if not (found := HUB.fullmatch(folder.as_posix())):
        return folder
    from huggingface_hub import snapshot_download

    patterns = [*(f"*{ending}" for ending in ENDINGS), *GENERATOR_CODE, SUMS]
    try:
        return Path(snapshot_download(found["repo_id"], revision=found["revision"], allow_patterns=patterns))
    except Exception as error:  # the hub raises a dozen types
        text = " ".join(str(error).split())[:200]
        raise UserError(
            f"{folder}: cannot be downloaded ({type(error).__name__}: {text}). Check the name; a private model needs"
            " `hf auth login`; without a connection, copy the hub's cache (HF_HOME) here"
        ) from error


def check_made_for(folder: Path, **expected: Any) -> None:
    """Refuse a model that was trained for something else, as where folders of a study were swapped.

    Args:
        folder: of the model; one that does not say what it is for, as published weights, is taken.
        expected: values of `split` and of the training's options, such as `seed`; those that it does not have are
            passed over.

    Raises:
        UserError: it has another value.
    """
    if not (folder / "provenance.json").is_file():
        return
    made_from = read_json(folder / "provenance.json")
    found = made_from["options"] | {name: made_from[name] for name in ("split",) if name in made_from}
    wrong = [name for name, value in expected.items() if name in found and found[name] != value]
    if wrong:
        has, needed = (", ".join(f"{name} {values[name]}" for name in wrong) for values in (found, expected))
        raise UserError(
            f"{folder}: was made for {has}, and {needed} is needed here; put the right folder there, or delete it and"
            " run again"
        )


@contextlib.contextmanager
def loading(folder: Path, what: str) -> Iterator[None]:
    """Whatever a library raises for a damaged folder becomes one line.

    Raises:
        UserError: it does.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # torch, diffusers, smp, timm and safetensors raise a dozen types
        text = " ".join(str(error).split())[:200]
        raise UserError(
            f"{folder}: cannot be loaded as {what} ({type(error).__name__}: {text}); make it again, or copy it again"
        ) from error


def read_config(folder: Path, name: str, classes: Mapping[str, Any] | set[str]) -> dict[str, Any]:
    """A model's configuration, whose class is one of these.

    Raises:
        UserError: it cannot be read, or it names another.
    """
    found = read_json(folder / name)
    kind = found.get("_class_name") if isinstance(found, dict) else None
    if isinstance(kind, list) and len(kind) == 2:  # the file of its own code, which is not run, and the class
        kind = kind[1]
    if not isinstance(kind, str) or kind not in classes:
        raise UserError(f"{folder / name}: names the class {kind!r}; {' or '.join(sorted(classes))} is needed here")
    return found


def load_diffusers_model(folder: Path, *kinds: Any) -> Any:
    """A model of one of these classes (diffusers' `ModelMixin`), from a folder that its `save_pretrained` wrote.

    Raises:
        UserError: the folder is of another class, damaged, or lacks weights.
    """
    classes = {kind.__name__: kind for kind in kinds}
    kind = classes[read_config(folder, "config.json", classes)["_class_name"]]
    with loading(folder, kind.__name__):
        model, found = kind.from_pretrained(
            str(folder), use_safetensors=True, local_files_only=True, output_loading_info=True
        )
        if wrong := [*found["missing_keys"], *found["unexpected_keys"], *found["mismatched_keys"]]:
            raise ValueError(f"weights that do not fit: {', '.join(map(str, wrong[:3]))}")
    return model


def load_pretrained(path: str, subfolder: str | None, kinds: Sequence[Any]) -> Any:
    """A pretrained model of one of these classes from a folder, or from the hub where `path` is a hub id.

    Raises:
        UserError: it is neither, cannot be loaded, or is of another class.
    """
    local = Path(path).is_dir()
    path = path if local else path.removeprefix("hf:")
    if not local and not HUB_ID.fullmatch(path):
        raise UserError(
            f"first_stage.path: there is no folder {path!r}, and it is no hub id (owner/name); fix the path"
        )
    options: dict[str, Any] = {"subfolder": subfolder} if subfolder else {}
    options |= {"local_files_only": True} if local else {}
    classes = {kind.__name__: kind for kind in kinds}
    try:
        name = kinds[0].load_config(path, **options).get("_class_name")
        if name in classes:
            return classes[name].from_pretrained(path, use_safetensors=True, **options)
    except Exception as error:  # diffusers and the hub raise a dozen types for a wrong path or no network
        raise UserError(
            f"first_stage.path: {path!r} cannot be loaded ({error}). Give a folder that diffusers' save_pretrained"
            " wrote, with weights as safetensors, or a hub id (needs the network, or a filled cache); see also"
            " first_stage.subfolder"
        ) from error
    raise UserError(f"first_stage.path: {path!r} is of class {name}; give one of {', '.join(classes)}")
