"""What can be known of a study before anything runs: splits that are possible, encoders that exist, and its cost."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd

from stedm.config import PretrainedFirstStage, SplitOptions, Study, choices
from stedm.cost import Machine, costs_of
from stedm.errors import UserError
from stedm.sheet import ROLES, Slide
from stedm.splits import by_patient, random_roles, roles_of_sheet

OPENED = 24
"""Slides that are opened to estimate the number of patches; the others are taken to be like them."""
TISSUE = 0.5
"""Share of a slide's patches that have tissue, where tissue is looked for: a guess."""
LABELLED = 4 / 3
"""Bytes of a patch with its labels, as a multiple of those of its colours."""
JPEG = 1 / 8
TOO_LONG = 7 * 24
"""Hours of a generator's trainings that nobody means to spend."""
START = 8
"""Seconds that a job takes to start, most of them for imports."""


def splits_of(study: Study, slides: Sequence[Slide]) -> tuple[dict[str, pd.Series], list[str]]:
    """Roles of patients in each split, if every slide can be used and every annotation labels something.

    Args:
        study: with `splits`.
        slides: rows of the sheet.

    Returns:
        Number of patients by role, by split; and what makes splits impossible.
    """
    rows = [
        {"patient": slide.patient, "group": slide.group, "split": slide.split, "labelled": slide.annotation is not None}
        for slide in slides
    ]
    patients = by_patient(pd.DataFrame(rows))
    counts: dict[str, pd.Series] = {}
    problems = []
    for name in study.splits.all:
        options = SplitOptions.of(study, split=name)
        try:
            if options.splits.source == "sheet":
                roles = roles_of_sheet(patients, options, Path(study.slides.sheet), {})
            else:
                roles = random_roles(patients, options, [])
            counts[name] = pd.Series(roles).value_counts()
        except UserError as error:
            problems += error.messages
    return counts, list(dict.fromkeys(problems))


def missing_encoders(study: Study) -> list[str]:
    """Encoders, of the network and of style, that the libraries do not have; folders and hub ids are not looked up."""
    import timm
    from segmentation_models_pytorch.encoders import encoders, get_encoder_names

    problems = []
    encoder, weights = study.segmentation.encoder, study.segmentation.encoder_weights
    if encoder.startswith("tu-"):
        if not timm.is_model(encoder.removeprefix("tu-").split(".")[0]):
            names = [f"tu-{name}" for name in timm.list_models()]
            problems.append(f"segmentation.encoder: timm has no model {encoder!r}; {nearest(encoder, names)}")
    elif encoder not in get_encoder_names():
        problems.append(
            f"segmentation.encoder: smp has no encoder {encoder!r}; {nearest(encoder, get_encoder_names())}"
        )
    elif weights and "/" not in weights and weights not in encoders[encoder]["pretrained_settings"]:
        known = encoders[encoder]["pretrained_settings"]
        problems.append(
            f"segmentation.encoder_weights: {encoder!r} has no weights {weights!r}; {choices(weights, known)}"
        )
    for name, generator in study.generators.items():
        style = generator.style.encoder.name
        if style in ("conv", "swin_v2_t") or style.startswith("hf-hub:") or "/" in style or Path(style).is_dir():
            continue
        if not timm.is_model(style.split(".")[0]):
            remedy = nearest(style, timm.list_models())
            problems.append(f"generators.{name}.style.encoder.name: timm has no model {style!r}; {remedy}")
    return problems


def missing_weights(study: Study) -> list[str]:
    """The folder of the segmentation encoder's weights, where it is not there."""
    weights = study.segmentation.encoder_weights
    if not weights or "/" not in weights or weights.startswith("hf-hub:") or Path(weights).is_dir():
        return []
    return [
        f"segmentation.encoder_weights: there is no folder {weights}; correct the path, or give imagenet (a download),"
        " hf-hub:<owner>/<name>, or null for random weights"
    ]


def nearest(wrong: str, names: Sequence[str]) -> str:
    """Remedy for a wrong name of many hundreds."""
    found = choices(wrong, names)
    return found if found.startswith("did you") else "name one of theirs, or a folder"


def budgets(study: Study) -> list[str]:
    """A note where generators whose images are compared were not trained alike."""
    seen = {
        name: item.training.steps * item.training.batch_size
        for name, item in study.generators.items()
        if any(name in arm.sources for arm in study.arms.values())
    }
    if len(set(seen.values())) < 2:
        return []
    each = ", ".join(f"{name} {images:,}" for name, images in seen.items())
    return [
        f"generators see different numbers of images in training ({each}): arms that differ in them compare that too"
    ]


def patches_of(study: Study, slides: Sequence[Slide]) -> tuple[int, int]:
    """About how many patches there are, and how many slides, of those looked at, cannot be opened.

    Raises:
        UserError: what only the user can correct, such as slides without a scale.
    """
    from stedm.slides.open import UnreadableSlide, open_slide

    patches = study.patches
    step = patches.size - patches.overlap
    share = 1.0 if patches.tissue is None else TISSUE
    if study.phantoms is not None:
        side = study.phantoms.size * (study.phantoms.mpp / patches.mpp if patches.mpp else 1)
        return round(share * len(slides) * (side // step) ** 2), 0

    def count(slide: Slide) -> float | UserError | None:
        try:
            with open_slide(slide, patches) as opened:
                across, down = (max(0, side / opened.downsample // step) for side in opened.dimensions)
                return across * down
        except (UnreadableSlide, OSError):
            return None
        except UserError as error:
            return error

    chosen = slides[:: max(1, -(-len(slides) // OPENED))]
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        counts = list(pool.map(count, chosen))
    if wrong := [message for error in counts if isinstance(error, UserError) for message in error.messages]:
        raise UserError(wrong)
    known = [number for number in counts if isinstance(number, int | float)]
    mean = sum(known) / len(known) if known else 0.0
    return round(share * mean * len(slides)), len(counts) - len(known)


def jobs_of(study: Study, slides: Sequence[Slide]) -> dict[str, int]:
    """About how many jobs each part of the study has."""
    splits, seeds, sources = len(study.splits.all), len(study.segmentation.seeds), len(study.all_sources)
    trained = {study.trained_arm(name) for name in study.arms}
    stages = {"none": 0, "pretrained": 2, "trained": 2}[study.first_stage.kind]
    return {
        "slides": len(slides) * (1 + (study.phantoms is not None)) + 3,
        "generators": splits * (1 + stages + 2 * len(study.generators)),
        "synthetic images": splits * sources * (3 + study.synthesis.shards),
        "networks": splits * seeds * len(trained),
        "scores and figures": splits * (seeds * len(study.arms) + sources) + 15,
    }


def disk_of(study: Study, patches: int) -> float:
    """About how many bytes the results need, checkpoints aside."""
    image = 3 * study.patches.size**2
    real = patches * (image * LABELLED if study.patches.storage == "raw" else image * JPEG)
    made = len(study.splits.all) * len(study.all_sources) * study.synthesis.images * image * LABELLED
    latents = 0.0 if study.first_stage.kind == "none" else len(study.splits.all) * patches * image / 6
    return real + made + latents


def hours_of(study: Study, slides: Sequence[Slide], machine: Machine) -> tuple[float, dict[str, float]]:
    """About how long the study takes on a machine: in all, and the trainings of each generator, by name."""
    costs = costs_of(study)
    jobs = sum(jobs_of(study, slides).values())
    total = costs.total(study) / machine.rate / 3600 + jobs * START / 3600
    each = {
        name: costs.generators[name] * item.training.steps / machine.rate / 3600
        for name, item in study.generators.items()
    }
    return total, each


def in_words(roles: pd.Series) -> str:
    """Numbers of patients by role."""
    return ", ".join(f"{roles[role]} {role}" for role in ROLES if role in roles)


def shown_hours(hours: float) -> str:
    """A duration in the unit that fits it."""
    if hours < 1:
        return f"{max(1, round(hours * 60))} min"
    return f"{hours:.1f} hours" if hours < 48 else f"{hours / 24:,.0f} days"


def summary(study: Study, slides: Sequence[Slide], machine: Machine, counts: dict[str, pd.Series]) -> list[str]:
    """What the study holds and costs, in lines.

    Args:
        study: without mistakes.
        slides: rows of the sheet.
        machine: that it is told for.
        counts: number of patients by role, by split.

    Raises:
        UserError: slides that only the user can correct.
    """
    lines = []
    texts = {name: in_words(roles) for name, roles in counts.items()}
    for text in dict.fromkeys(texts.values()):
        names = [name for name in texts if texts[name] == text]
        lines.append(f"splits {', '.join(names[:4])}{' …' * (len(names) > 4)}: patients {text}")
    patches, unknown = patches_of(study, slides)
    if unknown:
        lines.append(f"note: some slides ({unknown} of those looked at) cannot be opened; check says why")
    jobs = jobs_of(study, slides)
    lines.append(f"about {patches:,} patches, {disk_of(study, patches) / 1e9:.1f} GB of results without checkpoints")
    lines.append(f"about {sum(jobs.values()):,} jobs: " + ", ".join(f"{count} {name}" for name, count in jobs.items()))
    hours, each = hours_of(study, slides, machine)
    without = ", without its first stage" if study.first_stage.kind != "none" else ""
    lines.append(
        f"about {shown_hours(hours)} on this machine ({machine.name}) if it is idle{without}; rough, by a factor of two"
    )
    lines += [
        f"note: generators.{name}: its {study.generators[name].training.steps:,} steps take about"
        f" {shown_hours(each[name])} here (preset {study.generators[name].preset}); train on a GPU, or set preset: demo"
        for name in each
        if each[name] > TOO_LONG and not machine.cuda
    ]
    if isinstance(study.first_stage, PretrainedFirstStage) and not Path(study.first_stage.path).is_dir():
        lines.append(f"note: first_stage.path: {study.first_stage.path} is no folder here and will be downloaded")
    return lines + [f"note: {line}" for line in budgets(study)]
