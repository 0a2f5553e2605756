"""What must stay in step: lock, environment, package, profiles, and the comments of config.yaml."""

import importlib.util
import itertools
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
import yte
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from pydantic import BaseModel

from stedm import config
from stedm.config import PRESETS

ROOT = Path(__file__).parents[2]
PINS = [
    Requirement(line)
    for line in (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    if line.strip() and not line.lstrip().startswith("#")
]


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_the_lock_pins_every_dependency_once_and_within_its_bounds(python):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = [*project["dependencies"], *(item for extra in project["optional-dependencies"].values() for item in extra)]
    environment = {"python_version": python, "python_full_version": f"{python}.1", "sys_platform": "linux"}
    pinned: dict[str, str] = {}
    for pin in PINS:
        if pin.marker is None or pin.marker.evaluate(environment):
            assert canonicalize_name(pin.name) not in pinned, pin
            (exact,) = pin.specifier
            assert exact.operator == "=="
            pinned[canonicalize_name(pin.name)] = exact.version
    for requirement in map(Requirement, asked):
        if requirement.name != project["name"]:
            assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)]), requirement


def test_the_conda_environment_has_the_pins_of_the_lock():
    spec = importlib.util.spec_from_file_location("from_lock", ROOT / "envs/from_lock.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    written = (ROOT / "envs/stedm.yaml").read_text(encoding="utf-8")
    assert written == module.environment((ROOT / "requirements.lock").read_text(encoding="utf-8")), (
        "run `python envs/from_lock.py`"
    )
    python, _, pip = yaml.safe_load(written)["dependencies"]
    assert python == "python=3.12"
    assert {str(Requirement(item)) for item in pip["pip"]} == {str(pin) for pin in PINS}


@pytest.mark.parametrize(("tools", "gpus"), [((), 1000), (("nvidia-smi",), 1)])
def test_jobs_take_turns_on_a_gpu_and_run_side_by_side_without(tmp_path, monkeypatch, tools, gpus):
    for tool in tools:
        (tmp_path / tool).write_text("#!/bin/sh\n")
        (tmp_path / tool).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    profile = yte.process_yaml((ROOT / "profiles/local/config.yaml").read_text(encoding="utf-8"), require_use_yte=True)
    assert profile["resources"]["gpu"] == gpus


@pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="asks /proc")
def test_jobs_share_the_memory_of_the_machine():
    profile = yte.process_yaml((ROOT / "profiles/local/config.yaml").read_text(encoding="utf-8"), require_use_yte=True)
    kilobytes = int(re.findall(r"MemTotal: +(\d+)", Path("/proc/meminfo").read_text())[0])
    assert profile["resources"]["mem_mb"] == pytest.approx(kilobytes / 1024, abs=1)


def test_no_rule_asks_for_several_cores():
    """Such a job waits until all of them are free at once: on a small machine, the check until all slides are cut."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "workflow/rules").glob("*.smk"))
    assert set(re.findall(r"threads: (\d+)", text)) == {"1"}


def test_the_cluster_profile_sends_every_rule_that_asks_for_a_gpu_to_one():
    text = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "workflow/rules").glob("*.smk"))
    rules = dict(re.findall(r"^ *rule (\w+):\n(.*?)(?=^ *rule |\Z)", text, re.M | re.S))
    profile = yaml.safe_load((ROOT / "slurm/config.yaml").read_text(encoding="utf-8"))
    on_gpu = {name for name, resources in profile["set-resources"].items() if "slurm_partition" in resources}
    assert {name for name, body in rules.items() if "gpu=1" in body} == on_gpu
    for name in on_gpu:
        assert profile["set-resources"][name]["slurm_partition"] == "gpu"
        assert profile["set-resources"][name]["nodes"] == 1
    assert set(profile["set-threads"]) | set(profile["groups"]) <= set(rules)
    assert not set(profile["groups"]) & on_gpu  # jobs in a group would share the first GPU


def test_every_key_of_the_cluster_profile_is_explained():
    lines = (ROOT / "profiles/slurm/config.yaml").read_text(encoding="utf-8").splitlines()
    for above, line in itertools.pairwise(lines):
        if re.match(r"[a-z]", line):
            assert "#" in line or above.startswith("#"), line


def test_config_yaml_has_every_key_of_a_study():
    text = (ROOT / "config.yaml").read_text(encoding="utf-8")
    written = set(paths_in(yaml.safe_load(text)))
    in_comments = {  # of what is not chosen there
        "first_stage.": re.search(r"^first_stage:\n((?:  .*\n)+)", text, re.M)[1],
        "sources.": re.search(r"^sources:.*\n((?:  .*\n)+)", text, re.M)[1],
        "generators.unannotated_layouts.": re.search(r"^    unannotated_layouts: null.*\n(?: +#.*\n)+", text, re.M)[0],
        "synthesis.filter.": re.search(r"^  filter: null.*\n(?: +#.*\n)+", text, re.M)[0],
    }
    places: dict[type[BaseModel], list[str]] = {}  # a section that comes in several places is written out in one
    for section, prefix in sections_of(config.Study):
        places.setdefault(section, []).append(prefix)
    missing = [
        prefixes[0] + name
        for section, prefixes in places.items()
        for name in section.model_fields
        if not any(prefix + name in written for prefix in prefixes)
        and not re.search(rf"# .*\b{name}\b", in_comments.get(prefixes[0], ""))
    ]
    assert not missing


def test_defaults_in_the_comments_of_config_yaml_are_true():
    defaults = dict(defaults_of(config.Study))
    text = (ROOT / "config.yaml").read_text(encoding="utf-8")
    lines = text.splitlines()
    compared = 0
    for path, line in places_of(yaml.compose(text)):
        comment = lines[line].partition("# [")[2]
        if not comment or path not in defaults:
            continue
        said = yaml.safe_load(comment[: closing(comment)])
        default = defaults[path]
        if isinstance(said, str) and not isinstance(default, str) and said != "none":
            continue  # in words
        compared += 1
        assert (said == default) or (said == "none" and not default) or (said == "none" and default == "none"), path
    assert compared > 40


def closing(text: str) -> int:
    """Where the bracket closes that was opened before the text."""
    depth = 1
    for place, letter in enumerate(text):
        depth += {"[": 1, "]": -1}.get(letter, 0)
        if depth == 0:
            return place
    raise AssertionError(text)


def sections_in(annotation: Any) -> list[type[BaseModel]]:
    """Sections that a type names, however deep."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [section for part in getattr(annotation, "__args__", ()) for section in sections_in(part)]


def sections_of(section: type[BaseModel], prefix: str = "") -> Iterator[tuple[type[BaseModel], str]]:
    """Each section and where it stands: the path of its keys, without the names of generators, sources and arms."""
    yield section, prefix
    for name, field in section.model_fields.items():
        for inner in sections_in(field.annotation):
            yield from sections_of(inner, f"{prefix}{name}.")


def paths_in(value: Any, prefix: str = "") -> Iterator[str]:
    """Paths of the keys of a configuration, as `sections_of` writes them."""
    if isinstance(value, list):
        for item in value:
            yield from paths_in(item, prefix)
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield prefix + key
            named = prefix + key in ("generators", "sources", "arms")
            yield from paths_in(list(inner.values()) if named else inner, f"{prefix}{key}.")


def defaults_of(section: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Path and default of each key that has one, as YAML has them; not inside lists, generators, sources and arms."""
    for name, field in section.model_fields.items():
        if not field.is_required():
            default = field.get_default(call_default_factory=True)
            if isinstance(default, BaseModel):
                default = default.model_dump(mode="json")
            yield prefix + name, list(default) if isinstance(default, tuple) else default
        inner = sections_in(field.annotation)
        if inner and name not in ("classes", "generators", "sources", "arms"):
            yield from defaults_of(inner[0], f"{prefix}{name}.")


def places_of(node: yaml.Node, prefix: str = "") -> Iterator[tuple[str, int]]:
    """Path and line of each key of a YAML document."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield prefix + key.value, key.start_mark.line
            yield from places_of(value, f"{prefix}{key.value}.")


@pytest.fixture
def elsewhere(monkeypatch, tmp_path):
    """The variables that the studies of real images ask for."""
    monkeypatch.setenv("STEDM_REAL_DATA", str(tmp_path))
    monkeypatch.setenv("STEDM_WEIGHTS", "imagenet")


@pytest.mark.usefixtures("elsewhere")
def test_studies_of_the_repository_are_valid_and_name_presets_that_there_are():
    for path in [ROOT / "config.yaml", *(ROOT / "workflow/studies").glob("*.yaml")]:
        study = config.load(path)
        assert {generator.preset for generator in study.generators.values()} <= set(PRESETS)
        assert study.evaluation.reference_arm in study.arms


@pytest.mark.usefixtures("elsewhere")
def test_the_flowers17_study_fits_its_sheet(monkeypatch):
    """As far as it can be told without the images: every class with labels is tested once."""
    monkeypatch.chdir(ROOT)
    study = config.load(Path("workflow/studies/flowers17.yaml"))
    from stedm.sheet import read_sheet

    slides = read_sheet(study.slides, made_here=True)
    labelled = {slide.patient for slide in slides if slide.annotation}
    assert len(slides) == 204 and {slide.patient for slide in slides} - labelled == {"class_14"}
    assert all(slide.patient == f"class_{(int(slide.slide[-4:]) - 1) // 80 + 1:02}" for slide in slides)
    assert study.splits.repeats * study.splits.test_patients == len(labelled)


@pytest.mark.usefixtures("elsewhere")
def test_the_glioma_study_fits_its_sheet(monkeypatch):
    """As far as it can be told without the images: the configuration is valid and every patient has one role."""
    monkeypatch.chdir(ROOT)
    study = config.load(Path("workflow/studies/glioma.yaml"))
    from stedm.sheet import read_sheet

    slides = read_sheet(study.slides, made_here=True)
    labelled = {slide.patient for slide in slides if slide.annotation}
    assert len(slides) == 76 and len(labelled) == 5
    tested = study.splits.repeats * study.splits.test_patients
    assert tested % len(labelled) == 0  # over the repeats each is tested equally often
    # Who is neither annotated nor tested has masks for the upper bound.
    assert study.splits.annotated_patients == [1] and study.splits.test_patients == 2


def test_jobs_run_in_the_container_where_one_is_asked_for(study):
    """With a stand-in for Apptainer that notes the image and runs the command."""
    apptainer = study.path / "apptainer"
    apptainer.write_text(
        """#!/bin/bash
[ "$1" = --version ] && echo apptainer version 1.3.0 && exit
while [ "$1" != bash ]; do [[ "$1" = *.sif ]] && echo "$1" >> images; shift; done
exec "$@"
"""
    )
    apptainer.chmod(0o755)
    (study.path / "singularity").symlink_to(apptainer)
    done = study.snakemake("--configfile", "study.yaml", "--sdm", "apptainer", "--", "patches")
    assert done.returncode == 0, done.stdout + done.stderr
    images = (study.path / "images").read_text().splitlines()
    assert len(images) > len(study.rows)  # the slides, and the check
    assert {Path(image).resolve() for image in images} == {ROOT / "envs/stedm.sif"}
