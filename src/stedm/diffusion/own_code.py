"""A generator's own code: the part of this package that its folder needs, so that diffusers loads it without us.

The folder gets it in one file, `pipeline.py`, in which the definitions that the pipeline needs stand one after the
other. Each network of ours has a `component.py` beside its weights, where diffusers looks for the network's class.
This package never runs either of them.
"""

import ast
import importlib.util
import json
from collections import defaultdict
from functools import cache
from pathlib import Path

from stedm.models import CODE, COMPONENT

COMPONENT_CODE = f'''\
"""The class of this network is in ../{CODE}, which diffusers has loaded before."""

from . import {Path(CODE).stem}


def __getattr__(name):
    return getattr({Path(CODE).stem}, name)
'''

PIPELINE = "stedm.diffusion.pipeline", "StyleLayoutPipeline"
HEAD = '''\
"""A generator of STEDM (style-extracting diffusion models), for diffusers' `trust_remote_code=True`.

Taken from the package stedm {version} when the generator was saved. SPDX-License-Identifier: Apache-2.0
"""
'''
ITSELF = f'''\
SOURCE = Path(__file__).read_text(encoding="utf-8")


def own_code() -> str:
    """The contents of {CODE}: this file."""
    return SOURCE
'''
"""What stands for `own_code` in what it returns, so that a pipeline from there can be saved again."""


def write_code(folder: Path) -> None:
    """Write the code into the folder of a generator that diffusers has saved, and name it in model_index.json."""
    path = folder / "model_index.json"
    index = json.loads(path.read_text(encoding="utf-8"))
    for name, value in index.items():
        library = value[0] if isinstance(value, list) and value else None
        if isinstance(library, str) and library.split(".")[0] != "diffusers":
            index[name] = [Path(COMPONENT).stem, value[1]]
            (folder / name / COMPONENT).write_text(COMPONENT_CODE, encoding="utf-8")
    index["_class_name"] = [Path(CODE).stem, index["_class_name"]]
    path.write_text(json.dumps(index, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    (folder / CODE).write_text(own_code(), encoding="utf-8")


@cache
def own_code() -> str:
    """The contents of pipeline.py."""
    from stedm import __version__

    imports: dict[str, set[str]] = defaultdict(set)
    pieces: list[str] = []
    seen: set[tuple[str, str]] = set()

    def add(module: str, name: str) -> None:
        """Add a definition, after those that it needs."""
        if (module, name) in seen:
            return
        seen.add((module, name))
        known, lines = definitions(module)
        statement = known[name]
        if isinstance(statement, ast.ImportFrom) and str(statement.module).split(".")[0] == "stedm":
            add(str(statement.module), name)
        elif isinstance(statement, ast.ImportFrom):
            imports[str(statement.module)] |= {text for text in map(ast.unparse, statement.names) if name in text}
        elif isinstance(statement, ast.Import):
            imports[""] |= {ast.unparse(statement)}
        elif (module, name) == (__name__, own_code.__name__):
            add(module, Path.__name__)
            pieces.append(ITSELF)
        else:
            for node in ast.walk(statement):
                if isinstance(node, ast.Name) and node.id in known:
                    add(module, node.id)
            first = min([statement, *getattr(statement, "decorator_list", [])], key=lambda part: part.lineno)
            pieces.append("".join(lines[first.lineno - 1 : statement.end_lineno]))

    add(*PIPELINE)
    whole = sorted(imports.pop("", set()))
    froms = [f"from {module} import {', '.join(sorted(names))}" for module, names in sorted(imports.items())]
    head = HEAD.format(version=__version__) + "\n" + "\n".join([*whole, *froms]) + "\n"
    return "\n\n".join([head, *pieces])


def definitions(module: str) -> tuple[dict[str, ast.stmt], list[str]]:
    """The statement that defines or imports each name of a module, and the lines of its source."""
    spec = importlib.util.find_spec(module)
    assert spec is not None and spec.origin is not None
    source = Path(spec.origin).read_text(encoding="utf-8")
    known: dict[str, ast.stmt] = {}
    for statement in ast.parse(source).body:
        match statement:
            case ast.FunctionDef() | ast.ClassDef():
                known[statement.name] = statement
            case ast.Import() | ast.ImportFrom():
                known |= {alias.asname or alias.name.split(".")[0]: statement for alias in statement.names}
            case ast.Assign(targets=targets):
                known |= {node.id: statement for node in ast.walk(targets[0]) if isinstance(node, ast.Name)}
            case ast.AnnAssign(target=ast.Name(id=name)):
                known[name] = statement
    return known, source.splitlines(keepends=True)
