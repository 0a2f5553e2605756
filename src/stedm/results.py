"""Where the results of a study lie, and which of them a stage needs.

Nothing here knows Snakemake: the rules ask for patterns (`results.split("{split}")`), commands with `--study` for
the paths of one job.
"""

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from stedm.config import Filter, FromGenerator, PseudoLabels, Study


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
        self.pseudonyms = self.root / "pseudonyms.csv"
        self.check = self.root / "check.csv"
        self.patches = self.root / "patches"
        self.overviews = self.root / "overviews"
        self.report = self.root / "report.html"
        self.summary = self.root / "summary.md"
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

    def predicted_layouts(self, generator: str, split: str) -> Path:
        return self.root / f"predicted_layouts/{generator}/{split}"

    def synthesis(self, source: str, split: str) -> Path:
        return self.root / f"synthesis/{source}/{split}"

    def plan(self, source: str, split: str) -> Path:
        return self.synthesis(source, split) / "plan.csv"

    def shard(self, source: str, split: str, shard: str) -> Path:
        return self.synthesis(source, split) / f"shards/{shard}.h5"

    def shards(self, source: str, split: str) -> list[Path]:
        return [self.shard(source, split, str(shard)) for shard in range(self.study.synthesis.shards)]

    def manifest(self, source: str, split: str) -> Path:
        return self.synthesis(source, split) / "manifest.csv"

    def grid_plan(self, source: str, split: str) -> Path:
        return self.synthesis(source, split) / "grid.csv"

    def grid_images(self, source: str, split: str) -> Path:
        return self.synthesis(source, split) / "grid.h5"

    def network(self, arm: str, split: str, seed: str) -> Path:
        return self.root / f"segmentation/{arm}/{split}/seed{seed}"

    def applied_network(self, arm: str, split: str, seed: str) -> Path:
        """The network that an arm applies: arms that are trained on the same share that of the first of them."""
        return self.network(self.study.trained_arm(arm), split, seed)

    def scores(self, arm: str, split: str, seed: str) -> Path:
        return self.root / f"evaluation/{arm}/{split}/seed{seed}"

    def image_quality(self, source: str, split: str) -> Path:
        return self.root / f"image_quality/{source}/{split}"

    def table(self, name: str) -> Path:
        return self.root / f"tables/{name}.csv"

    def figure(self, name: str, ending: str = "png") -> Path:
        return self.root / f"figures/{name}.{ending}"

    def shown_pseudonyms(self) -> list[Path]:
        """The key of the pseudonyms that figures show; none where the study asks for real names."""
        return [] if self.study.names == "real" else [self.pseudonyms]

    @property
    def first_split(self) -> str:
        """The split that pictures show."""
        return next(iter(self.study.splits.all))

    def all_generators(self) -> list[Path]:
        return [self.generator(name, split) for name in self.study.generators for split in self.study.splits.all]

    def all_manifests(self) -> list[Path]:
        return [self.manifest(name, split) for name in self.study.all_sources for split in self.study.splits.all]

    def all_image_quality(self) -> list[Path]:
        return [self.image_quality(name, split) for name in self.study.all_sources for split in self.study.splits.all]

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

    def unannotated_layouts(self, generator: str, split: str) -> list[Path]:
        """Predicted layouts of the unannotated patches that a generator learns from."""
        used = self.study.generators[generator].unannotated_layouts is not None
        return [self.predicted_layouts(generator, split)] if used else []

    def labeller(self, generator: str, split: str) -> Path:
        """The network that predicts them."""
        layouts = self.study.generators[generator].unannotated_layouts
        assert layouts is not None
        return self.first_network(layouts.arm, split)

    def generator_of(self, source: str, split: str) -> list[Path]:
        """The generator that a source is."""
        found = self.study.all_sources[source]
        return [self.generator(found.generator, split)] if isinstance(found, FromGenerator) else []

    def style_bank_of(self, source: str, split: str) -> list[Path]:
        """The style bank that a source reads: none for a generator without style, or what is no generator."""
        found = self.study.all_sources[source]
        return self.style_embeddings(found.generator, split) if isinstance(found, FromGenerator) else []

    def network_of(self, source: str, split: str) -> list[Path]:
        """The network that gives a source's pseudo-labels, or that a generator's images must agree with."""
        match self.study.all_sources[source]:
            case PseudoLabels(arm=arm) | FromGenerator(filter=Filter(arm=arm)):
                return [self.first_network(arm, split)]
        return []

    def synthetic_images(self, arm: str, split: str) -> list[Path]:
        """Shards that an arm trains on."""
        return [shard for source in self.study.arms[arm].sources for shard in self.shards(source, split)]

    def evaluator(self, split: str) -> list[Path]:
        """The network that measures whether generated images follow their layout; none where the study names none."""
        arm = self.study.evaluation.evaluator_arm
        return [] if arm is None else [self.first_network(arm, split)]

    def structure_network(self, split: str) -> list[Path]:
        """The network in whose features the structure of generated images is compared: that of the reference arm, if it
        is not the judge of layouts as well and knows real images of the annotated patients alone; none where the study
        names other features."""
        evaluation, trained = self.study.evaluation, self.study.trained_arm
        arm = self.study.arms[evaluation.reference_arm]
        judge = evaluation.evaluator_arm and trained(evaluation.evaluator_arm)
        independent = trained(evaluation.reference_arm) != judge
        ignorant = not arm.sources and arm.annotations == "annotated"
        used = evaluation.features == "segmenter" and independent and ignorant
        return [self.first_network(evaluation.reference_arm, split)] if used else []

    def first_network(self, arm: str, split: str) -> Path:
        return self.applied_network(arm, split, str(self.study.segmentation.seeds[0]))

    def figures(self) -> list[Path]:
        """All figures, in the order in which the report shows them."""
        names = ("scores", "differences", "maps", "contact_sheet", "histories")
        return [*(self.figure(name) for name in names), *self.source_figures()]

    def all_splits(self) -> list[Path]:
        return [self.split(split) for split in self.study.splits.all]

    def quality_summary(self) -> list[Path]:
        """The table of synthetic images' quality; none where the study has no source."""
        return [self.table("image_quality")] if self.study.all_sources else []

    def source_figures(self) -> list[Path]:
        """Figures of synthetic images; none where the study has no source. Pseudo-labelled patches are not compared
        with the closest real ones, which they are, and grids are of layouts and styles."""
        sources = self.study.all_sources
        compared = self.study.evaluation.features != "segmenter" or self.study.evaluation.evaluator_arm is not None
        made = [name for name in sources if name not in self.study.pseudo_labels]
        styled = [name for name, one in sources.items() if isinstance(one, FromGenerator) and one.styled]
        return [
            *(self.figure(f"examples-{name}") for name in sources),
            *(self.figure(f"grid-{name}") for name in styled),
            *(self.figure(f"closest-{name}") for name in made if compared),
        ]


def call_with(function: Callable[..., Any], names: Mapping[str, Any]) -> Any:
    """Call a function with those of the named values that are its parameters."""
    return function(**{name: names[name] for name in inspect.signature(function).parameters if name in names})
