"""Where the results of a study lie, and which of them a stage needs.

Nothing here knows Snakemake: the rules ask for patterns (`results.split("{split}")`), commands with `--study` for
the paths of one job.
"""

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from stedm.config import Study


class Results:
    """Paths of a study's results.

    Args:
        study: the study.
        folder: what `results/` is called.
    """

    def __init__(self, study: Study, folder: Path = Path("results")):
        self.study = study
        self.root = folder / study.study
        self.sheet = self.root / "slides.csv"
        self.check = self.root / "check.csv"
        self.patches = self.root / "patches"
        self.overviews = self.root / "overviews"
        self.work = self.root / "work"

    def patch_file(self, slide: str) -> Path:
        return self.patches / f"{slide}.h5"

    def overview(self, slide: str) -> Path:
        return self.overviews / f"{slide}.png"

    def split(self, split: str) -> Path:
        return self.root / f"splits/{split}.csv"

    def first_stage(self, split: str) -> Path:
        return self.root / f"first_stage/{split}"

    def latents(self, split: str) -> Path:
        return self.root / f"latents/{split}"

    def generator(self, generator: str, split: str) -> Path:
        return self.root / f"generators/{generator}/{split}"

    def style_bank(self, generator: str, split: str) -> Path:
        return self.root / f"style_bank/{generator}/{split}"

    def synthesis(self, generator: str, split: str) -> Path:
        return self.root / f"synthesis/{generator}/{split}"

    def plan(self, generator: str, split: str) -> Path:
        return self.synthesis(generator, split) / "plan.csv"

    def shard(self, generator: str, split: str, shard: str) -> Path:
        return self.synthesis(generator, split) / f"shards/{shard}.h5"

    def shards(self, generator: str, split: str) -> list[Path]:
        return [self.shard(generator, split, str(shard)) for shard in range(self.study.synthesis.shards)]

    def manifest(self, generator: str, split: str) -> Path:
        return self.synthesis(generator, split) / "manifest.csv"

    def grid_plan(self, generator: str, split: str) -> Path:
        return self.synthesis(generator, split) / "grid.csv"

    def grid_images(self, generator: str, split: str) -> Path:
        return self.synthesis(generator, split) / "grid.h5"

    def network(self, arm: str, split: str, seed: str) -> Path:
        return self.root / f"segmentation/{arm}/{split}/seed{seed}"

    def applied_network(self, arm: str, split: str, seed: str) -> Path:
        """The network that an arm applies: arms that are trained on the same share that of the first of them."""
        return self.network(self.study.trained_arm(arm), split, seed)

    def scores(self, arm: str, split: str, seed: str) -> Path:
        return self.root / f"evaluation/{arm}/{split}/seed{seed}"

    def image_quality(self, generator: str, split: str) -> Path:
        return self.root / f"image_quality/{generator}/{split}"

    def table(self, name: str) -> Path:
        return self.root / f"tables/{name}.csv"

    def figure(self, name: str, ending: str = "png") -> Path:
        return self.root / f"figures/{name}.{ending}"

    @property
    def first_split(self) -> str:
        """The split that pictures show."""
        return next(iter(self.study.splits.all))

    def all_generators(self) -> list[Path]:
        return [self.generator(name, split) for name in self.study.generators for split in self.study.splits.all]

    def all_manifests(self) -> list[Path]:
        return [self.manifest(name, split) for name in self.study.generators for split in self.study.splits.all]

    def all_image_quality(self) -> list[Path]:
        return [self.image_quality(name, split) for name in self.study.generators for split in self.study.splits.all]

    def all_networks(self) -> list[Path]:
        return list(dict.fromkeys(self.applied_network(*run) for run in self.runs()))

    def all_scores(self) -> list[Path]:
        return [self.scores(*run) for run in self.runs()]

    def runs(self) -> list[tuple[str, str, str]]:
        """Arm, split and seed of each network as it is applied."""
        seeds = [str(seed) for seed in self.study.segmentation.seeds]
        return [(arm, split, seed) for arm in self.study.arms for split in self.study.splits.all for seed in seeds]

    def autoencoder(self, split: str) -> list[Path]:
        """The autoencoder that latents come from; none where generators work on pixels."""
        return [] if self.study.first_stage.kind == "none" else [self.first_stage(split)]

    def cached_latents(self, split: str) -> list[Path]:
        """The latents that generators learn from; none where they work on pixels."""
        return [] if self.study.first_stage.kind == "none" else [self.latents(split)]

    def style_embeddings(self, generator: str, split: str) -> list[Path]:
        """The style bank that images are generated from; none for a generator without style."""
        styled = self.study.generators[generator].style.sampler != "none"
        return [self.style_bank(generator, split)] if styled else []

    def frozen_embeddings(self, generator: str, split: str) -> list[Path]:
        """The style bank that a generator learns from: that of a frozen encoder."""
        trainable = self.study.generators[generator].style.encoder.trainable
        return [] if trainable else self.style_embeddings(generator, split)

    def embedding_generator(self, generator: str, split: str) -> list[Path]:
        """The generator whose trained style encoder fills the style bank; none where the encoder is frozen."""
        trainable = self.study.generators[generator].style.encoder.trainable
        return [self.generator(generator, split)] if trainable else []

    def synthetic_images(self, arm: str, split: str) -> list[Path]:
        """Shards that an arm trains on."""
        generator = self.study.arms[arm].generator
        return [] if generator is None else self.shards(generator, split)

    def filter_network(self, split: str) -> list[Path]:
        """The network that generated images must agree with; none where the study filters none."""
        chosen = self.study.synthesis.filter
        return [] if chosen is None else [self.first_network(chosen.arm, split)]

    def evaluator(self, split: str) -> list[Path]:
        """The network that measures whether generated images follow their layout; none where the study names none."""
        arm = self.study.evaluation.evaluator_arm
        return [] if arm is None else [self.first_network(arm, split)]

    def first_network(self, arm: str, split: str) -> Path:
        return self.applied_network(arm, split, str(self.study.segmentation.seeds[0]))

    def generator_figures(self) -> list[Path]:
        """Tables and figures of generated images; none where the study has no generator."""
        generators = self.study.generators
        compared = self.study.evaluation.features != "segmenter" or self.study.evaluation.evaluator_arm is not None
        styled = [name for name, generator in generators.items() if generator.style.sampler != "none"]
        return [
            *(self.figure(f"examples-{name}") for name in generators),
            *(self.figure(f"grid-{name}") for name in styled),
            *(self.figure(f"closest-{name}") for name in generators if compared),
            *([self.figure("image_quality", "html")] if generators else []),
        ]


def call_with(function: Callable[..., Any], names: Mapping[str, Any]) -> Any:
    """Call a function with those of the named values that are its parameters."""
    return function(**{name: names[name] for name in inspect.signature(function).parameters if name in names})
