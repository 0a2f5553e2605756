"""Where results lie and which of them a stage needs."""

from pathlib import Path

import pytest

from stedm.config import ScoreOptions, Study, load
from stedm.results import Results, call_with

DEMO = Path(__file__).parents[1] / "config.yaml"
STYLED = {"generator": "styled", "split": "n3-r0"}
UNSTYLED = {"unstyled": {"preset": "demo", "style": {"sampler": "none"}}}
"""A generator without style, which the demo has not."""


def changed(**sections) -> Results:
    """The demo's results, with sections changed: keys of a section are added to those it has."""
    study = load(DEMO).model_dump(mode="json")
    for name, values in sections.items():
        whole = not isinstance(study[name], dict) or "kind" in values
        study[name] = values if whole else study[name] | values
    return Results(Study.model_validate(study))


@pytest.fixture(scope="module")
def demo() -> Results:
    return Results(load(DEMO))


def test_everything_lies_in_the_folder_of_the_study(demo):
    assert demo.root == Path("results/demo")
    assert demo.patch_file("P01") == Path("results/demo/patches/P01.h5")
    assert demo.network("real", "n3-r0", "1") == Path("results/demo/segmentation/real/n3-r0/seed1")
    assert Results(demo.study, Path("elsewhere")).sheet == Path("elsewhere/demo/slides.csv")


def test_a_path_of_wildcards_is_a_pattern(demo):
    assert str(demo.generator("{generator}", "{split}")) == "results/demo/generators/{generator}/{split}"


def test_there_is_one_network_for_each_arm_split_and_seed(demo):
    networks = changed(splits={"annotated_patients": [1, 3], "repeats": 2}).all_networks()
    assert len(networks) == len(set(networks)) == len(demo.study.arms) * 4 * len(demo.study.segmentation.seeds)
    assert Path("results/demo/segmentation/styled_strong/n1-r1/seed0") in networks


def test_arms_that_differ_in_how_their_network_is_applied_share_it(demo):
    arms = demo.study.model_dump(mode="json")["arms"]
    arms["adabn"] = arms["strong"] | {"label": "AdaBN", "application": "adabn"}
    both = changed(arms=arms)
    assert both.applied_network("adabn", "n3-r0", "1") == both.applied_network("strong", "n3-r0", "1")
    assert both.applied_network("strong", "n3-r0", "1") == both.network("strong", "n3-r0", "1")
    assert both.all_networks() == demo.all_networks()
    assert len(both.all_scores()) == len(demo.all_scores()) * len(arms) / (len(arms) - 1)
    scored = ScoreOptions.of(both.study, arm="adabn", split="n3-r0", seed="0")
    assert (scored.application, scored.run.arm) == ("adabn", "adabn")


def test_pixels_need_no_autoencoder_and_latents_need_it(demo):
    assert demo.autoencoder("n3-r0") == demo.cached_latents("n3-r0") == []
    generators = {"styled": {"preset": "improved"}, "unstyled": {"preset": "improved", "style": {"sampler": "none"}}}
    trained = changed(first_stage={"kind": "trained"}, generators=generators)
    assert trained.autoencoder("n3-r0") == [Path("results/demo/first_stage/n3-r0")]
    assert trained.cached_latents("n3-r0") == [Path("results/demo/latents/n3-r0")]


def test_a_trained_style_encoder_fills_the_bank_and_a_frozen_one_is_learned_from(demo, tmp_path):
    bank, generator = demo.style_bank(**STYLED), demo.generator(**STYLED)
    assert demo.style_embeddings(**STYLED) == [bank]
    assert (demo.embedding_generator(**STYLED), demo.frozen_embeddings(**STYLED)) == ([generator], [])
    encoder = {"name": str(tmp_path), "trainable": False}
    frozen = changed(generators={"styled": {"preset": "improved", "style": {"encoder": encoder}}})
    assert (frozen.embedding_generator(**STYLED), frozen.frozen_embeddings(**STYLED)) == ([], [bank])


def test_a_generator_without_style_has_no_bank():
    assert changed(generators=UNSTYLED).style_embeddings("unstyled", "n3-r0") == []


def test_arms_train_on_the_shards_of_their_sources(demo):
    assert demo.synthetic_images("real", "n3-r0") == []
    assert [path.name for path in demo.synthetic_images("styled_strong", "n3-r0")] == ["0.h5", "1.h5"]
    both = changed(arms={"both": {"label": "both", "sources": ["styled", "recolour"]}})
    folder = Path("results/demo/synthesis")
    assert both.synthetic_images("both", "n3-r0") == [
        folder / f"{source}/n3-r0/shards/{shard}.h5" for source in ("styled", "recolour") for shard in (0, 1)
    ]


def test_a_source_reads_what_its_kind_needs(demo):
    """Generator, style bank and network of each."""
    labelled = changed(generators=UNSTYLED, synthesis={"filter": {"arm": "real"}})
    real, strong = (labelled.network(arm, "n3-r0", "0") for arm in ("real", "strong"))
    needed = {
        source: [find(source, "n3-r0") for find in (labelled.generator_of, labelled.style_bank_of, labelled.network_of)]
        for source in labelled.study.all_sources
    }
    generator, bank = demo.generator(**STYLED), demo.style_bank(**STYLED)
    assert needed == {
        "styled": [[generator], [bank], [real]],
        "unstyled": [[demo.generator("unstyled", "n3-r0")], [], [real]],
        "recolour": [[], [], []],
        "pseudo_labels": [[], [], [strong]],
        "repaint": [[generator], [bank], [strong]],
    }
    assert demo.network_of("styled", "n3-r0") == []


def test_the_network_that_evaluates_is_the_first_seeds(demo):
    assert demo.evaluator("n3-r0") == [demo.network("all_strong", "n3-r0", "0")]


LABELLED_BY_REAL = {
    "recolour": {"kind": "recolour"},
    "pseudo_labels": {"kind": "pseudo_labels", "arm": "real"},
    "repaint": {"kind": "repaint", "generator": "styled", "arm": "real"},
}


def test_structure_is_compared_in_features_of_the_reference_arm_if_it_is_independent():
    def network(features="segmenter", reference="strong", evaluator="all_strong", **arms):
        arms_of = {"reference_arm": reference, "evaluator_arm": evaluator, "claim": None}
        evaluation = {"features": features} | arms_of
        return changed(evaluation=evaluation, arms=arms, sources=LABELLED_BY_REAL).structure_network("n3-r0")

    strong = [Path("results/demo/segmentation/strong/n3-r0/seed0")]
    assert network() == network(evaluator=None) == strong
    normalised = {"label": "n", "augmentation": "strong", "application": "normalise"}
    assert network(normalised=normalised, reference="normalised") == strong  # the network that this arm applies
    assert network(normalised=normalised, evaluator="normalised") == []  # the judge of layouts
    assert network(reference="all_strong", evaluator=None) == []  # knows all annotations
    assert network(reference="styled_strong") == []  # knows generated images
    assert network(features="inception") == []  # not needed


def test_generators_with_style_have_a_grid_and_pseudo_labelled_patches_are_not_compared_with_themselves():
    assert [path.stem for path in changed(generators=UNSTYLED).source_figures()] == [
        *("sources", "examples-styled", "examples-unstyled", "examples-recolour", "examples-pseudo_labels"),
        *("examples-repaint", "grid-styled", "closest-recolour", "closest-styled", "closest-unstyled"),
    ]


def test_a_function_gets_the_names_that_it_has_parameters_for(demo):
    names = {"source": "styled", "split": "n3-r0", "shard": "0"}
    assert call_with(demo.plan, names) == demo.plan("styled", "n3-r0")


def test_the_report_shows_all_figures_and_has_the_quality_of_images_where_there_are_any(demo):
    assert [path.stem for path in demo.figures()][:5] == ["scores", "differences", "maps", "contact_sheet", "histories"]
    assert demo.figures()[5:] == demo.source_figures()
    assert demo.quality_summary() == [demo.table("image_quality")]
    assert demo.all_splits() == [demo.split("n3-r0")]
