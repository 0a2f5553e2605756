"""What the workflow runs, in what order, and what it runs again after a change."""

import csv
import json
import re
import shlex
from pathlib import Path

import pytest
import yaml

from stedm.cli import build_parser
from stedm.config import stages
from stedm.config.standard import STANDARD

ROOT = Path(__file__).parents[2]
TABLES_AND_FIGURES = {
    "compare_arms",
    "plot_scores",
    "plot_differences",
    "plot_maps",
    "plot_histories",
    "write_report",
}
SEGMENTATION = {
    "train_segmentation",
    "score_slides",
    *TABLES_AND_FIGURES,
    "evaluate_images",
    "summarise_quality",
    "plot_closest",
}
AFTER_PATCHES = {
    "plot_contact_sheet",
    "make_split",
    "train_generator",
    "embed_styles",
    "plan_images",
    "generate_shard",
    "write_manifest",
    "generate_grid",
    "plot_examples",
    "plot_grid",
    *SEGMENTATION,
}
ROUNDS = {"real": [], "first": ["first"], "second": ["second"]}
"""Sources of arms that learn from one round of pseudo-labels, and from two."""


def test_the_default_study_is_the_demo(make_folder, tmp_path):
    for name in ("config.yaml", "workflow"):
        (tmp_path / name).symlink_to(ROOT / name)
    config = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
    slides = len((ROOT / config["slides"]["sheet"]).read_text(encoding="utf-8").splitlines()) - 1
    splits = len(config["splits"]["annotated_patients"]) * config["splits"]["repeats"]
    networks = len(config["arms"]) * len(config["segmentation"]["seeds"]) * splits
    expected = {
        "render_phantom": slides,
        "extract_patches": slides,
        "make_split": splits,
        "train_generator": len(config["generators"]) * splits,
        "generate_shard": (len(config["generators"]) + len(config["sources"])) * splits * config["synthesis"]["shards"],
        "train_segmentation": networks,
        "score_slides": networks,
    }
    jobs = make_folder(tmp_path).jobs(configfile=None)
    assert {name: jobs[name] for name in expected} == expected


def test_a_configuration_file_replaces_the_default_one(study):
    (study.path / "config.yaml").write_text((ROOT / "config.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    jobs = study.jobs()
    assert jobs["extract_patches"] == len(study.rows)
    assert jobs["train_segmentation"] == len(study.config["arms"]) == 2  # the default study has eight arms
    assert jobs["render_phantom"] == 0


def test_a_study_without_arms_runs_the_standard_ones_and_its_report_names_them(study):
    study.write({key: value for key, value in study.config.items() if key not in ("arms", "evaluation")})
    jobs = study.jobs()
    assert (jobs["train_segmentation"], jobs["train_generator"]) == (len(STANDARD["arms"]), 1)
    assert jobs["plan_images"] == len(STANDARD["sources"]) + 1  # and the generator
    study.run()
    done = study.snakemake("--configfile", "study.yaml", "--report", "workflow.html")
    assert done.returncode == 0, done.stdout + done.stderr
    page = (study.path / "workflow.html").read_text(encoding="utf-8")
    assert f"Arms: {'; '.join(arm['label'] for arm in STANDARD['arms'].values())}</li>" in page


def test_a_finished_study_has_nothing_left_to_do(finished):
    assert not finished.jobs()


def test_a_lost_patch_file_is_redone_with_what_depends_on_it(finished):
    (finished.path / "results/tiny/patches/U1.h5").unlink()
    jobs = finished.jobs()
    assert jobs["extract_patches"] == 1
    assert set(jobs) == {"extract_patches", *AFTER_PATCHES}


def test_segmentation_options_retrain_no_generator(finished):
    finished.change("segmentation.encoder", "resnet34")
    jobs = finished.jobs()
    assert jobs["train_segmentation"] == 2
    assert set(jobs) == SEGMENTATION


def test_new_statistics_predict_nothing_again(finished):
    finished.change("evaluation.bootstrap", 99)
    jobs = finished.jobs()
    assert jobs["compare_arms"] == jobs["summarise_quality"] == 1
    assert set(jobs) <= {*TABLES_AND_FIGURES, "summarise_quality"}


def test_another_seed_trains_only_its_own_networks(finished):
    finished.change("segmentation.seeds", [0, 1])
    jobs = finished.jobs()
    assert jobs["train_segmentation"] == jobs["score_slides"] == 2  # one for each arm
    assert jobs["train_generator"] == jobs["evaluate_images"] == 0


def test_another_number_of_annotated_patients_leaves_the_first_alone(finished):
    finished.change("splits.annotated_patients", [2, 1])
    jobs = finished.jobs()
    assert jobs["make_split"] == jobs["train_generator"] == 1
    assert jobs["train_segmentation"] == 2


def test_a_new_arm_retrains_no_other(finished):
    finished.change("arms.stain", {"label": "stain", "augmentation": "stain"})
    assert finished.jobs()["train_segmentation"] == 1


def test_an_arm_that_applies_a_network_in_another_way_trains_none(finished):
    finished.change("arms.adabn", {"label": "AdaBN", "application": "adabn"})
    jobs = finished.jobs()
    assert (jobs["train_segmentation"], jobs["score_slides"]) == (0, 1)


def test_a_new_label_of_an_arm_trains_nothing(finished):
    finished.change("arms.real.label", "real only")
    jobs = finished.jobs()
    assert jobs["compare_arms"] == jobs["plot_scores"] == 1
    assert set(jobs) <= TABLES_AND_FIGURES


def test_a_strict_study_makes_strict_splits(study):
    commands = []
    for strict in (True, False):
        study.change("strict", strict)
        plan = study.snakemake("--configfile", "study.yaml", "--dry-run", "--printshellcmds").stdout
        commands += [line.split() for line in plan.splitlines() if "stedm splits make" in line]
    strict, lenient = (shlex.split(" ".join(some)) for some in commands)
    given = [json.loads(some[some.index("--options") + 1])["strict"] for some in (strict, lenient)]
    assert given == [True, False]
    assert strict[strict.index("--check") + 1] == "results/tiny/check.csv"


def test_a_new_slide_is_extracted_alone(finished):
    (finished.path / "A3.png").write_bytes(b"")
    row = finished.rows[0] | {"slide": "A3", "patient": "A3", "path": "A3.png"}
    finished.write(finished.config, [*finished.rows, row])
    alone = {"sample_sheet": 1, "check": 1, "extract_patches": 1, "plot_contact_sheet": 1, "patches": 1}
    alone["make_pseudonyms"] = 1
    assert finished.jobs("patches") == alone


def test_a_changed_row_is_extracted_alone(finished):
    rows = finished.rows
    rows[1]["mpp"] = "0.5"
    finished.write(finished.config, rows)
    assert finished.jobs("patches")["extract_patches"] == 1


def test_a_raised_version_redoes_its_stage(finished):
    raised = "import stedm.versions; stedm.versions.VERSIONS['style_bank'] += 1"
    jobs = finished.jobs(prelude=raised)
    assert jobs["embed_styles"] == 1
    assert jobs["train_generator"] == jobs["extract_patches"] == 0


def test_a_trained_encoder_fills_the_style_bank_after_the_training(study):
    edges = study.edges()
    assert ("train_generator", "embed_styles") in edges
    assert ("embed_styles", "train_generator") not in edges


def test_a_frozen_encoder_fills_the_style_bank_before_the_training(study):
    (study.path / "encoder").mkdir()
    study.change("generators.styled.style", {"encoder": {"name": "encoder", "trainable": False}})
    edges = study.edges()
    assert ("embed_styles", "train_generator") in edges
    assert ("train_generator", "embed_styles") not in edges


def test_a_filter_needs_its_network_before_the_drawing_and_changes_no_plan(finished):
    edges = finished.edges()
    assert ("train_segmentation", "generate_shard") not in edges
    finished.change("synthesis.filter", {"arm": "real", "iou": 0.3})
    finished.change("evaluation.evaluator_arm", None)
    edges = finished.edges()
    assert {("train_segmentation", "generate_shard"), ("generate_shard", "train_segmentation")} <= edges
    jobs = finished.jobs()
    assert jobs["generate_shard"] == 2
    assert jobs["plan_images"] == jobs["train_generator"] == jobs["generate_grid"] == jobs["plot_closest"] == 0
    assert jobs["train_segmentation"] == 1  # not the one that filters


def test_recolouring_needs_splits_alone_and_is_evaluated_like_a_generator(finished):
    finished.change("sources.recolour", {"kind": "recolour"})
    jobs = finished.jobs()
    once = ("plan_images", "write_manifest", "evaluate_images", "plot_examples", "plot_closest", "summarise_quality")
    assert {name: jobs[name] for name in once} == dict.fromkeys(once, 1)
    assert jobs["generate_shard"] == 2
    assert jobs["train_segmentation"] == jobs["train_generator"] == jobs["embed_styles"] == jobs["plot_grid"] == 0
    finished.change("arms.both", {"label": "both", "sources": ["styled", "recolour"]})
    assert finished.jobs()["train_segmentation"] == 1


def test_each_round_of_pseudo_labels_needs_the_network_of_the_one_before(study):
    study.change("sources.first", {"kind": "pseudo_labels", "arm": "real"})
    study.change("sources.second", {"kind": "pseudo_labels", "arm": "first"})
    study.change("arms", {name: {"label": name, "sources": sources} for name, sources in ROUNDS.items()})
    study.change("evaluation.evaluator_arm", None)
    jobs = study.jobs("results/tiny/segmentation/second/n2-r0/seed0")
    assert jobs["train_segmentation"] == 3  # that of real patches, whose labels the next learns from, and so on
    assert jobs["plan_images"] == 2
    assert jobs["generate_shard"] == 4
    assert jobs["train_generator"] == 0


def test_pseudo_labels_that_need_themselves_are_named_before_anything_runs(study):
    study.change("sources.labels", {"kind": "pseudo_labels", "arm": "styled"})
    study.change("arms.styled.sources", ["styled", "labels"])
    answer = study.snakemake("--configfile", "study.yaml", "--dry-run")
    assert answer.returncode != 0
    assert "study.yaml, sources: each needs the one before it: source labels → arm styled → source labels" in (
        answer.stdout + answer.stderr
    )


def test_a_generator_without_style_has_no_style_bank(study):
    study.change("generators.styled.style", {"sampler": "none", "canonical": False})
    jobs = study.jobs()
    assert jobs["train_generator"] == 1
    assert jobs["embed_styles"] == jobs["plot_grid"] == 0


@pytest.mark.parametrize(
    ("first_stage", "rule"),
    [({"kind": "trained"}, "train_first_stage"), ({"kind": "pretrained", "path": "vae"}, "prepare_first_stage")],
)
def test_a_first_stage_comes_before_latents_and_they_before_the_generator(study, first_stage, rule):
    study.change("first_stage", first_stage)
    study.change("generators.styled.style", {"canonical": False})
    assert {(rule, "encode_latents"), (rule, "train_generator"), ("encode_latents", "train_generator")} <= study.edges()


def test_new_patches_are_trained_on(finished):
    (finished.path / "results/tiny/patches/U1.h5").write_bytes(b"other patches")
    assert set(finished.jobs()) == AFTER_PATCHES


def test_real_names_rerun_the_figures_that_have_names(finished):
    finished.change("names", "real")
    named = ("contact_sheet", "maps", "examples", "grid", "closest")
    assert set(finished.jobs()) - {"figures", "patches"} == {"write_report", *(f"plot_{name}" for name in named)}


def test_only_splits_and_the_contact_sheet_list_all_patch_files(finished):
    """Each job that lists them costs the study of a thousand slides a thousand edges."""
    summary = finished.snakemake("--configfile", "study.yaml", "--detailed-summary").stdout
    rules = {
        row["rule"]
        for row in csv.DictReader(summary.splitlines(), delimiter="\t")
        if "results/tiny/patches/A1.h5" in row["input-file(s)"].split(",")
    }
    assert rules == {"make_split", "plot_contact_sheet"}


def test_masks_and_coordinates_are_inputs_of_their_slides_patches(study):
    (study.path / "masks").mkdir()
    (study.path / "coords").mkdir()
    for slide in [row["slide"] for row in study.rows]:
        (study.path / f"masks/{slide}.geojson").touch()
        (study.path / f"coords/{slide}_patches.h5").touch()
    study.change("patches.tissue", {"masks": "masks"})
    study.change("patches.coords", "coords")
    target = "results/tiny/patches/A1.h5"
    study.snakemake("--configfile", "study.yaml", "--quiet", "all", "--", target)
    summary = study.snakemake("--configfile", "study.yaml", "--detailed-summary", "--", target).stdout
    inputs = {row["output_file"]: row["input-file(s)"] for row in csv.DictReader(summary.splitlines(), delimiter="\t")}
    assert set(inputs[target].split(",")) == {"A1.png", "A1-mask.png", "masks/A1.geojson", "coords/A1_patches.h5"}


def test_every_command_of_the_rules_is_one_that_stedm_takes(study):
    """Also that the rule hands over the sections that the command says it takes."""
    study.change("first_stage", {"kind": "trained"})
    study.change("generators.styled.style", {"canonical": False})
    plan = study.snakemake("--configfile", "study.yaml", "--dry-run", "--printshellcmds").stdout
    texts = re.findall(r"^Shell command: \(?(stedm .*) > \S+ 2>&1$", plan, re.M)
    lines = [line for text in texts for line in text.split(" && ")]
    assert len(lines) > len(study.rows) + 15
    for line in lines:
        words = shlex.split(line.removesuffix(")"))
        args = build_parser().parse_args(words[1:])
        if "options" in args:
            getattr(stages, args.command.options).parse(args.options)
        args.command.check_given(args)


def test_file_names_reach_the_shell_as_one_word(study):
    name = "it's $(touch broken) `a` slide; rm.png"
    (study.path / "A1.png").rename(study.path / name)
    rows = study.rows
    rows[0]["path"] = name
    study.write(study.config, rows)
    plan = study.snakemake("--configfile", "study.yaml", "--dry-run", "--printshellcmds", "patches").stdout
    (command,) = [line for line in plan.splitlines() if "stedm patches extract" in line and "rm.png" in line]
    words = shlex.split(command.removeprefix("Shell command: "))
    assert yaml.safe_load(words[words.index("--slide") + 1])["path"] == name
