"""What a study could be, from what there is: resolution, patients, networks, and how long they are trained."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stedm.config import Study
from stedm.cost import Machine, costs_of
from stedm.errors import UserError
from stedm.init.survey import Facts

COARSEST = 1.0
"""µm per pixel beyond which cells, by which tissues are told apart, are no longer seen."""
ACROSS = 4
"""Structures that a patch should hold along its side."""
ONE_IMAGE = 2_500
"""Pixels along the longer side of what was cut out of a slide, and is tissue all over."""
TESTED = 3
"""One in so many annotated patients is tested in each repeat."""
FEW = 4
"""Where all patients are annotated, one in so many of the others counts as annotated."""
MOST_REPEATS = 5
SHARES = {"generators": 0.5, "networks": 0.4}
"""Of the time; the rest is for synthetic images, scores and figures."""
LEAST_STEPS = 300
MOST_NETWORK_STEPS = 20_000
MOST_GENERATOR_STEPS = {"improved": 100_000, "demo": 10_000}


@dataclass
class Proposal:
    """A study as data, with a comment for each key, and the reasons.

    Attributes:
        study: as the configuration file has it.
        comments: by key; those of a section's own keys as "section.key".
        reasons: for people, in the order of the study.
    """

    study: dict[str, Any]
    comments: dict[str, str] = field(default_factory=dict)
    reasons: list[str] = field(default_factory=list)


def propose_patches(facts: Sequence[Facts], diameter: float, machine: Machine, proposal: Proposal) -> None:
    """Size and resolution of patches: some structures across, none coarser than cells can be seen.

    Args:
        facts: of the slides of the sheet: all have a scale, or none has.
        diameter: of the structures, in µm or in pixels.
        machine: a CPU trains on small patches only.
        proposal: gets the section `patches`.

    Raises:
        UserError: slides are too small for any patch.
    """
    largest = 256 if machine.cuda else 64
    scaled = facts[0].mpp is not None
    finest = max(fact.mpp or 1.0 for fact in facts)
    unit = "µm" if scaled else "px"
    mpp = finest
    while scaled and mpp * 2 <= COARSEST and largest * mpp < ACROSS * diameter:
        mpp *= 2
    mpp = float(f"{mpp:.3g}") if float(f"{mpp:.3g}") >= finest else math.ceil(mpp * 1000) / 1000
    across = min(min(fact.width, fact.height) * (fact.mpp or 1) / mpp for fact in facts)
    wanted = ACROSS * diameter / mpp if diameter else largest
    size = next((size for size in (64, 128, 256) if size >= wanted), 256)
    size = min(size, largest)
    while size > across and size > 32:
        size //= 2
    if size > across:
        raise UserError(f"the smallest slide is {across:.0f} px across, less than a patch of {size} px; leave it out")
    patches: dict[str, Any] = {"size": size, **({"mpp": mpp} if scaled else {"level": 0})}
    structures = f"; structures are {diameter:.3g} {unit} across" if diameter else ""
    proposal.comments["patches.size"] = f"{size * mpp:.4g} {unit}{structures}"
    limit = "" if machine.cuda else ", the most that a CPU trains on in hours"
    median = " (half of their area is in larger ones)" if diameter else ""
    proposal.reasons.append(f"patches of {size} px{limit}: {proposal.comments['patches.size']}{median}")
    if scaled:
        scales = sorted({f"{fact.mpp:.3g}" for fact in facts})
        proposal.comments["patches.mpp"] = f"µm per pixel; slides have {', '.join(scales[:3])}"
        proposal.reasons.append(f"resolution {mpp:g} µm per pixel: slides have {', '.join(scales[:5])}")
    else:
        proposal.comments["patches.level"] = "pixels as they are, since no slide has a scale"
        proposal.reasons.append(
            "no slide has a scale: patches are pixels as they are. If slides differ in magnification, that is wrong:"
            " give --mpp if it is the same for all"
        )
    images = [max(fact.width, fact.height) <= ONE_IMAGE for fact in facts]
    if all(images):
        patches["tissue"] = None
        proposal.comments["patches.tissue"] = "the images are tissue all over"
        proposal.reasons.append(f"all of an image is tissue: none is larger than {ONE_IMAGE} px")
    proposal.study["patches"] = patches


def propose_splits(annotated: int, unannotated: int, proposal: Proposal) -> None:
    """Numbers of patients, and repeats in which each annotated patient is tested about once.

    Args:
        annotated: patients with annotations.
        unannotated: patients without.
        proposal: gets the section `splits`.

    Raises:
        UserError: too few patients are annotated to learn from one and test another.
    """
    if annotated < 2:
        raise UserError(
            f"{annotated} patient has annotations, and one is needed to learn from and another to test: annotate a"
            " slide of a second patient. If slides of several patients are taken for one's, correct --patient-from"
        )
    test = max(1, annotated // TESTED)
    rest = annotated - test
    few = rest if unannotated else max(1, rest // FEW)
    repeats = min(MOST_REPEATS, math.ceil(annotated / test))
    proposal.study["splits"] = {"repeats": repeats, "annotated_patients": [few], "test_patients": test}
    left = rest - few + unannotated
    proposal.comments["splits"] = f"each of {annotated} is tested about once; {left} others lend style"
    proposal.reasons.append(
        f"{repeats} random splits of the {annotated} patients with annotations: {few} to learn from, {test} to test;"
        f" {left} lend their style without annotations"
        + ("" if unannotated else " (theirs are kept for the upper bound, and to see what the method adds)")
    )


def propose_encoder(weights: str, machine: Machine, proposal: Proposal) -> None:
    """Encoder of the segmentation network and what it starts from.

    Args:
        weights: "imagenet", "none", or a folder in timm's format.
        machine: a CPU gets a small encoder.
        proposal: gets the section `segmentation`.

    Raises:
        UserError: the folder does not say whose weights it has.
    """
    segmentation: dict[str, Any] = {"encoder": "mit_b2" if machine.cuda else "tu-resnet18"}
    comments = proposal.comments
    comments["segmentation.encoder"] = "as in the paper" if machine.cuda else "small, for CPUs"
    if weights == "imagenet":
        segmentation["encoder_weights"] = "imagenet"
        comments["segmentation.encoder_weights"] = "a download; or a folder in timm's format; null: random"
        reason = "the encoder starts from ImageNet's weights, which are downloaded once (--encoder-weights FOLDER: not)"
    elif weights == "none":
        reason = "the encoder starts from random weights, as --encoder-weights none says"
    else:
        segmentation["encoder"] = f"tu-{architecture_of(Path(weights))}"
        segmentation["encoder_weights"] = weights if "/" in weights else f"./{weights}"
        comments["segmentation.encoder"] = "the one whose weights they are"
        comments["segmentation.encoder_weights"] = "folder in timm's format"
        reason = f"the encoder is {segmentation['encoder']}, whose weights {weights} has"
    if not machine.cuda:
        segmentation |= {"encoder_depth": 4, "decoder_channels": [64, 32, 16, 8]}
        comments["segmentation.encoder_depth"] = "for small patches"
        comments["segmentation.decoder_channels"] = "narrow, for CPUs"
    proposal.study["segmentation"] = segmentation
    proposal.reasons.append(reason)


def architecture_of(folder: Path) -> str:
    """The timm model whose weights a folder has.

    Raises:
        UserError: it does not say.
    """
    try:
        return str(json.loads((folder / "config.json").read_text(encoding="utf-8"))["architecture"])
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise UserError(
            f"--encoder-weights: {folder} is no folder of timm ({error}); it needs config.json with `architecture`, and"
            " model.safetensors. Or give imagenet (a download), or none"
        ) from error


def propose_trainings(machine: Machine, hours: float, proposal: Proposal) -> None:
    """Preset, batches and steps that fit into the time.

    Args:
        machine: that trains.
        hours: of the study's trainings together.
        proposal: has all other sections, and gets `generators`, `first_stage` and the network's training.
    """
    study, comments = proposal.study, proposal.comments
    preset = "improved" if machine.cuda else "demo"
    size = study["patches"]["size"]
    comments["first_stage"] = "the generator works on pixels, folded into channels"
    batch = batch_of(machine, size)
    generator: dict[str, Any] = {"preset": preset, "training": {"steps": 1, **({"batch_size": batch} if batch else {})}}
    network = {"steps": 1, "batch_size": 16, "learning_rate": 1e-3 if not machine.cuda else 1e-4, "decay": "cosine"}
    segmentation = study.pop("segmentation")
    study["first_stage"] = {"kind": "none", "unshuffle": max(2, size // 64)}
    study["generators"] = {"styled": generator}
    study["segmentation"] = segmentation | {"training": network}
    checked = Study.model_validate(study)
    costs = costs_of(checked)
    budget = hours * 3600 * machine.rate
    wanted = {
        "generators": SHARES["generators"] * budget / sum(costs.generators.values()),
        "networks": SHARES["networks"] * budget / costs.networks,
    }
    most = {"generators": MOST_GENERATOR_STEPS[preset], "networks": MOST_NETWORK_STEPS}
    steps = {key: rounded(min(most[key], max(LEAST_STEPS, value))) for key, value in wanted.items()}
    generator["training"]["steps"], network["steps"] = steps["generators"], steps["networks"]
    network["ema_decay"] = 0.999 if steps["networks"] > 5000 else 0.99
    needed = costs.total(Study.model_validate(study)) / machine.rate / 3600
    comments["generators"] = f"for {'a GPU' if machine.cuda else 'CPUs: a demonstration'}; of {hours:g} h (--hours)"
    comments["segmentation.training"] = f"the study takes about {needed:.1f} h here"
    proposal.reasons.append(
        f"preset {preset}: this machine has {machine.name} ({machine.rate / 1e9:,.0f} billion operations a second)"
        + ("" if machine.cuda else ", no GPU: what it generates is a demonstration; run init on a machine with a GPU")
    )
    proposal.reasons.append(
        f"generator {steps['generators']:,} steps, networks {steps['networks']:,}: about {needed:.1f} h of"
        f" {hours:g} h (--hours), if nothing else runs here"
        + (f"; fewer than {LEAST_STEPS} steps teach nothing, so it takes longer than asked" if needed > hours else "")
    )


def batch_of(machine: Machine, size: int) -> int | None:
    """Images in a generator's batch that fit into the memory of a GPU; None: as the preset has it."""
    if not machine.cuda:
        return None
    fitting = machine.memory / 2**30 * (256 / size) ** 2 / 1.25
    return int(min(64, max(4, 2 ** int(math.log2(max(4, fitting))))))


def rounded(steps: float) -> int:
    """Two digits, downwards."""
    unit = 10 ** max(0, int(math.log10(steps)) - 1)
    return int(steps // unit * unit)


def patients_with(slides: set[str], patients: Mapping[str, str]) -> set[str]:
    return {patients[slide] for slide in slides}
