"""Loading models from folders, our own or strangers': only what we save, from safetensors alone, never from the hub.

What a folder's configuration names is compared with what is expected before any library reads it: libraries import the
classes that it names, and ask the hub for what they do not find.
"""

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from stedm.errors import UserError
from stedm.seals import SUMS, check_folder_unchanged, files_in, read_json

ENDINGS = (".safetensors", ".json", ".csv", ".md")
"""Of what we save. Weights in any other form are pickles, which are programs, or could be taken for the weights."""
HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")


def check_model_folder(folder: Path) -> None:
    """Refuse a folder that is not there, has been changed, or holds what no model of ours has.

    Raises:
        UserError: all that is wrong with it.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder; name the folder of a model")
    check_folder_unchanged(folder)
    others = [name for name in files_in(folder) if Path(name).suffix not in ENDINGS or not (folder / name).is_file()]
    if others:
        raise UserError(
            f"{folder}: holds {', '.join(sorted(others)[:5])}, which stedm never saves with a model; take a folder"
            f" that has files {', '.join(ENDINGS)} and {SUMS} alone"
        )


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
