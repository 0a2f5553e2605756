import copy
import re
from pathlib import Path

import pytest
import yaml

from stedm.config import (
    GeneratorOptions,
    Patches,
    SegmentationOptions,
    Slides,
    Study,
    load,
    merge,
    validate,
)
from stedm.config.standard import STANDARD
from stedm.errors import UserError

ROOT = Path(__file__).parents[1]
STUDY = {
    "study": "small",
    "slides": {"sheet": "slides.csv"},
    "classes": [{"name": "stroma", "color": "#3f7fbf"}, {"name": "tumour", "color": "#c83232"}],
    "patches": {"size": 64, "mpp": 1.0},
    "splits": {"annotated_patients": [2], "test_patients": 2},
    "segmentation": {"training": {"steps": 10}},
    "generators": {"styled": {"preset": "demo"}},
    "arms": {"real": {"label": "real only"}, "styled": {"label": "with style", "sources": ["styled"]}},
    "evaluation": {"reference_arm": "real"},
}


def changed(**values):
    """The study with values set by their keys, `__` between the levels; None removes one."""
    data = copy.deepcopy(STUDY)
    for key, value in values.items():
        *where, last = key.split("__")
        node = data
        for part in where:
            node = node[int(part)] if isinstance(node, list) else node.setdefault(part, {})
        if value is None:
            del node[last]
        else:
            node[last] = value
    return data


def without_arms(**values):
    """A study whose file names neither arms nor what belongs to them, with values set by their keys."""
    return validate(changed(**{"arms": None, "generators": None, "evaluation": None} | values), "config.yaml")


PLAIN = {"preset": "demo", "style": {"sampler": "none"}}


def messages(**values):
    with pytest.raises(UserError) as error:
        validate(changed(**values), "config.yaml")
    return error.value.messages


def test_a_small_study_is_valid():
    study = validate(STUDY, "config.yaml")
    assert isinstance(study, Study)
    assert study.class_names == ["stroma", "tumour"]
    assert study.scored_classes == ["tumour"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"pathces": {}}, "pathces: there is no such key; did you mean 'patches'?"),
        ({"patches__sise": 64}, "patches.sise: there is no such key; did you mean 'size'?"),
        (
            {"patches__tissue__saturaton": 0.1},
            "patches.tissue.saturaton: there is no such key; did you mean 'saturation'?",
        ),
        ({"classes__0__colour": "#000000"}, "classes.0.colour: there is no such key; did you mean 'color'?"),
        (
            {"segmentation__training__step": 1},
            "segmentation.training.step: there is no such key; did you mean 'steps'?",
        ),
        (
            {"generators__styled__style__samplr": "none"},
            "generators.styled.style.samplr: there is no such key; did you mean 'sampler'?",
        ),
        (
            {"generators__styled__style__encoder__nam": "x"},
            "generators.styled.style.encoder.nam: there is no such key; did you mean 'name'?",
        ),
        ({"arms__real__lable": "x"}, "arms.real.lable: there is no such key; did you mean 'label'?"),
        ({"xyz": 1}, "xyz: there is no such key; there are: annotations, arms"),
    ],
)
def test_unknown_keys_come_with_the_right_one(values, message):
    assert any(text.startswith(f"config.yaml, {message}") for text in messages(**values)), messages(**values)


def test_unknown_keys_of_a_first_stage(tmp_path):
    found = messages(first_stage={"kind": "trained", "chanels": [8, 8]})
    assert len(found) == 1
    assert found[0].startswith("config.yaml, first_stage")
    assert "did you mean 'channels'?" in found[0]
    assert "first_stage" in messages(first_stage={"kind": "learned"})[0]


@pytest.mark.parametrize(
    ("values", "parts"),
    [
        ({"patches__size": 8}, ["patches.size", "16", "(it is 8)"]),
        ({"patches__size": "big"}, ["patches.size", "integer", '(it is "big")']),
        ({"classes__1__color": "red"}, ["classes.1.color"]),
        ({"splits": None}, ["splits: is missing; give it a value"]),
        ({"patches__level": 0}, ["patches", "either mpp", "or level"]),
        ({"patches__overlap": 64}, ["overlap (64 px) must be smaller than size (64 px)"]),
        ({"splits__test_patients": None}, ["splits", "need test_patients"]),
        ({"arms__styled__sources": ["stiled"]}, ["arms.styled.sources", "did you mean 'styled'?"]),
        ({"evaluation__reference_arm": "rael"}, ["evaluation.reference_arm", "did you mean 'real'?"]),
        ({"evaluation__claim": ["stiled", "real"]}, ["evaluation.claim", "did you mean 'styled'?"]),
        ({"evaluation__claim": ["styled"]}, ["evaluation.claim", "at least 2 items"]),
        ({"evaluation__claim": ["real", "real"]}, ["evaluation.claim", "real appears twice; give each once"]),
        ({"evaluation__claim": ["real", "styled"]}, ["evaluation.claim", "comes second: [styled, real]"]),
        (
            {"evaluation__claim": ["all", "real"], "arms__all": {"label": "all", "annotations": "all"}},
            ["evaluation.claim", "'all'", "annotations: annotated"],
        ),
        ({"evaluation__classes": ["tumor"]}, ["evaluation.classes", "did you mean 'tumour'?"]),
        ({"annotations__fill": "fat"}, ["annotations.fill", "no class 'fat'"]),
        ({"classes__1__name": "stroma"}, ["classes", "'stroma' appears twice"]),
        ({"classes__1__mask_values": ["a"]}, ["classes.1.mask_values", "'a' is neither a number nor a range"]),
        ({"patches__size": 72}, ["patches.size to be a multiple"]),
        ({"slides__root": "${NO_SUCH_VARIABLE_HERE}/x"}, ["slides.root", "NO_SUCH_VARIABLE_HERE is not set"]),
    ],
)
def test_wrong_values_name_key_and_remedy(values, parts):
    found = messages(**values)
    assert all(text.startswith("config.yaml, ") for text in found)
    assert any(all(part in text for part in parts) for text in found), found


def test_names_and_values_that_stand_for_two_classes_are_refused():
    found = messages(classes__0__annotations=["Tumor"], classes__1__annotations=["Tumor"])
    assert any("'Tumor'" in text and "stroma" in text and "tumour" in text for text in found)
    found = messages(classes__0__mask_values=["0-5"], classes__1__mask_values=["3"])
    assert any("'3'" in text and "'0-5'" in text for text in found)


def test_all_mistakes_are_reported_at_once():
    assert len(messages(patches__sise=1, study="1 2", arms__real__label=3)) == 3


def test_a_file_is_loaded(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(STUDY))
    assert load(path) == validate(STUDY, "")


@pytest.mark.parametrize("content", [b"a: [", b"- 1", b"", b"\xff\xff", b"a: !!python/object/apply:os.system [ls]"])
def test_files_that_are_no_configuration_are_refused(tmp_path, content):
    (tmp_path / "c.yaml").write_bytes(content)
    with pytest.raises(UserError, match=r"c\.yaml[:,] "):
        load(tmp_path / "c.yaml")
    with pytest.raises(UserError, match=r"missing\.yaml: there is no such file"):
        load(tmp_path / "missing.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("study: a\nslides:\n\tsheet: s.csv\n", ", line 3: begins with a tab; YAML is indented with blanks"),
        (
            "study: a\npatches:\n  size:64\n  mpp: 1\n",
            ", line 4: cannot be read as YAML: mapping values are not allowed",
        ),
        (
            "study: a\nclasses: [{name: b}\nseed: 1\n",
            "is a blank missing behind a colon, or a bracket or a quote not closed",
        ),
    ],
)
def test_the_line_from_which_on_a_file_is_no_yaml_is_named(tmp_path, text, message):
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(UserError, match=re.escape(message)):
        load(tmp_path / "c.yaml")


def test_numbers_that_are_none_are_told_in_plain_words():
    (message,) = messages(segmentation__training__steps="10k")
    assert message == 'config.yaml, segmentation.training.steps: must be a valid integer (it is "10k")'


def test_a_study_without_arms_compares_the_standard_ones_with_strong_augmentation():
    study = without_arms()
    assert {name: (arm.sources, arm.augmentation, arm.annotations) for name, arm in study.arms.items()} == {
        "real": ([], "flips", "annotated"),
        "strong": ([], "strong", "annotated"),
        "recolour_strong": (["recolour"], "strong", "annotated"),
        "pseudo_labels_strong": (["pseudo_labels"], "strong", "annotated"),
        "repaint_strong": (["repaint"], "strong", "annotated"),
        "styled_strong": (["styled"], "strong", "annotated"),
        "everything_strong": (["recolour", "repaint", "styled"], "strong", "annotated"),
        "all_strong": ([], "strong", "all"),
    }
    assert {name: source.kind for name, source in study.sources.items()} == {
        "recolour": "recolour",
        "pseudo_labels": "pseudo_labels",
        "repaint": "repaint",
    }
    assert study.sources["repaint"].generator == "styled"
    assert study.sources["pseudo_labels"].arm == study.evaluation.reference_arm == "strong"
    assert study.evaluation.evaluator_arm == "all_strong"
    assert [generator.preset for generator in study.generators.values()] == ["improved"]


def test_the_default_study_writes_the_standard_arms_and_sources_out():
    written = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
    left = {key: value for key, value in written.items() if key not in ("arms", "sources")}
    left["evaluation"] = {key: value for key, value in left["evaluation"].items() if not key.endswith("_arm")}
    assert validate(left, "") == load(ROOT / "config.yaml")
    assert list(written["arms"]) == list(STANDARD["arms"])  # in the order of tables and figures
    assert list(written["generators"]) == list(STANDARD["generators"])


def test_a_study_with_arms_of_its_own_gets_nothing_else():
    study = validate(STUDY, "config.yaml")
    assert list(study.arms) == ["real", "styled"]
    assert (list(study.generators), study.sources, study.evaluation.evaluator_arm) == (["styled"], {}, None)
    bare = validate(changed(generators=None, arms={"strong": {"label": "strong"}}, evaluation=None), "config.yaml")
    assert (bare.generators, list(bare.all_sources), bare.evaluation.evaluator_arm) == ({}, [], None)


def test_sections_of_a_study_without_arms_change_and_add_to_the_standard_ones():
    standard = without_arms()
    study = without_arms(
        generators={"styled": {"preset": "demo"}, "unstyled": {"style": {"sampler": "none"}}},
        sources={"pseudo_labels": {"confidence": 0.9}, "second": {"kind": "pseudo_labels", "arm": "strong"}},
        evaluation={"bootstrap": 99},
    )
    assert study.generators["styled"].preset == "demo"
    assert list(study.all_sources) == ["styled", "unstyled", "recolour", "pseudo_labels", "repaint", "second"]
    assert (study.sources["pseudo_labels"].arm, study.sources["pseudo_labels"].confidence) == ("strong", 0.9)
    assert (study.evaluation.bootstrap, study.evaluation.evaluator_arm) == (99, "all_strong")
    assert study.arms == standard.arms
    assert without_arms(evaluation={"evaluator_arm": None}).evaluation.evaluator_arm is None
    assert without_arms(sources={"recolour": {"kind": "recolour"}}) == standard
    assert without_arms() == standard  # no study changes the standard


@pytest.mark.parametrize("arms", [{}, [], "standard"])
def test_arms_that_are_none_are_refused_and_not_taken_for_the_standard(arms):
    assert any(text.startswith("config.yaml, arms: ") for text in messages(arms=arms))


def test_environment_variables_are_expanded(monkeypatch):
    monkeypatch.setenv("STEDM_TEST", "/somewhere")
    assert Slides(sheet="${STEDM_TEST}/a.csv", root="$STEDM_TEST").root == "/somewhere"


def test_sections_travel_as_json():
    patches = Patches(size=128, level=1, tissue=None)
    assert Patches.model_validate_json(patches.model_dump_json()) == patches


def test_merging_goes_section_by_section():
    assert merge({"a": {"b": 1, "c": 2}, "d": [1]}, {"a": {"c": 3}, "d": [2]}) == {"a": {"b": 1, "c": 3}, "d": [2]}


@pytest.mark.parametrize(
    ("values", "parts"),
    [
        ({"seed": -1}, ["seed: ", "greater than or equal to 0"]),
        ({"phantoms": {"seed": -1}}, ["phantoms.seed: ", "greater than or equal to 0"]),
        ({"segmentation__seeds": [0, -1]}, ["segmentation.seeds.1: ", "greater than or equal to 0"]),
        ({"segmentation__seeds": [0, 1, 0]}, ["segmentation.seeds: 0 appears twice"]),
        ({"splits__annotated_patients": [3, 3]}, ["splits.annotated_patients: 3 appears twice"]),
        ({"synthesis": {"images": 3, "shards": 4}}, ["synthesis: 3 images cannot be split into 4 shards"]),
        ({"generators__styled__preset": ["demo"]}, ["generators.styled: preset ['demo'] is not one of paper"]),
        ({"generators__styled__preset": {}}, ["generators.styled: preset {} is not one of paper"]),
        (
            {"synthesis__filter": {"arm": "reel"}},
            ["synthesis.filter.arm: there is no arm 'reel'; did you mean 'real'?"],
        ),
        (
            {"synthesis__filter": {"arm": "styled"}},
            ["synthesis.filter.arm: the arm 'styled' learns from synthetic images"],
        ),
        (
            {"synthesis__filter": {"arm": "all"}, "arms__all": {"label": "all", "annotations": "all"}},
            ["synthesis.filter.arm: the arm 'all' learns from synthetic images or from annotations that the other"],
        ),
        (
            {"synthesis__filter": {"arm": "real"}, "evaluation__evaluator_arm": "real"},
            ["evaluation.evaluator_arm: the network of 'real' has chosen the images"],
        ),
        (
            {"generators__plain": PLAIN, "sources__again": {"kind": "repaint", "generator": "plain", "arm": "real"}},
            ["sources.again.generator: 'plain' has no style, and would repaint patches in another"],
        ),
        ({"annotations": {"whole_slide": True}}, ["annotations: whole_slide needs fill"]),
        ({"evaluation__evaluator_arm": "styled"}, ["evaluation.evaluator_arm: the arm 'styled' has sources"]),
    ],
)
def test_what_would_fail_or_mislead_later_is_refused(values, parts):
    found = messages(**values)
    assert len(found) == 1
    assert all(part in found[0] for part in parts), found


def labels(arm, **more):
    return {"kind": "pseudo_labels", "arm": arm, **more}


@pytest.mark.parametrize(
    ("values", "parts"),
    [
        ({"sources": {"styled": {"kind": "recolour"}}}, ["sources.styled: there is a generator of that name"]),
        ({"sources": {"labels": {"kind": "recolor"}}}, ["sources.labels: ", "'recolour', 'pseudo_labels'"]),
        ({"sources": {"labels": labels("reel")}}, ["sources.labels.arm: there is no arm 'reel'; did you mean 'real'?"]),
        ({"sources": {"labels": labels("real", confidens=1)}}, ["sources.labels.confidens: ", "mean 'confidence'?"]),
        (
            {"sources": {"labels": labels("real", confidence={"stroma": 0.9})}},
            ["sources.labels.confidence: give one number, or one for each class: stroma, tumour"],
        ),
        (
            {"sources": {"labels": labels("all")}, "arms__all": {"label": "all", "annotations": "all"}},
            ["sources.labels.arm: the arm 'all' learns from annotations that the other arms do not have"],
        ),
        (
            {"sources": {"labels": labels("real")}, "evaluation__evaluator_arm": "real"},
            ["evaluation.evaluator_arm: the network of 'real' has labelled the patches of the source 'labels'"],
        ),
        (  # the same network by another name
            {
                "sources": {"labels": labels("real")},
                "arms__adapted": {"label": "a", "application": "adabn"},
                "evaluation__evaluator_arm": "adapted",
            },
            ["evaluation.evaluator_arm: the network of 'real' has labelled the patches of the source 'labels'"],
        ),
        ({"arms__styled__sources": ["styled", "styled"]}, ["arms.styled: sources: styled appears twice"]),
        ({"arms__real__synthetic_ratio": 2.0}, ["arms.real: synthetic_ratio and synthetic_images are for arms with"]),
        (
            {"sources": {"labels": labels("styled")}, "arms__styled__sources": ["styled", "labels"]},
            ["sources: each needs the one before it: ", "source labels → arm styled → source labels"],
        ),
        (
            {
                "sources": {"one": labels("second"), "two": labels("first")},
                "arms__first": {"label": "first", "sources": ["one"]},
                "arms__second": {"label": "second", "sources": ["two"]},
            },
            [
                "sources: each needs the one before it: ",
                "source one → arm first → source two → arm second → source one",
            ],
        ),
    ],
)
def test_sources_that_cannot_be_made_or_know_too_much_are_refused(values, parts):
    found = messages(**values)
    assert len(found) == 1
    assert all(part in found[0] for part in parts), found


def test_a_second_round_labels_with_the_network_of_the_first():
    rounds = {"first": labels("real"), "second": labels("first", confidence={"stroma": 0.9, "tumour": 0.7})}
    arms = {f"arms__{name}": {"label": name, "sources": [name, "styled"]} for name in rounds}
    study = validate(changed(sources=rounds, **arms), "config.yaml")
    assert list(study.all_sources) == ["styled", "first", "second"]
    assert study.sources["first"].thresholds(study.class_names) == [0.8, 0.8]
    assert study.sources["second"].thresholds(study.class_names) == [0.9, 0.7]


def frozen(name, **more):
    return {"generators__styled__style": {"encoder": {"name": name, "trainable": False, **more}}}


@pytest.mark.parametrize(
    "values", [frozen("conv"), frozen("swin_v2_t", pretrained=True), frozen("resnet18"), frozen("/no/such/folder")]
)
def test_a_frozen_style_encoder_needs_weights(values):
    assert ["has random weights" in text for text in messages(**values)] == [True]


def test_frozen_style_encoders_with_weights_are_taken(tmp_path):
    for values in (frozen(str(tmp_path)), frozen("hf-hub:owner/name"), frozen("resnet18", pretrained=True)):
        validate(changed(**values), "config.yaml")
        values["generators__styled__style"]["null"] = "constant_image"
        assert ["set null to learned" in text for text in messages(**values)] == [True]


@pytest.mark.parametrize(
    ("values", "parts"),
    [
        (
            {"generators__styled__sampling": {"guidance_interval": [0.8, 0.2]}},
            ["generators.styled.sampling.guidance_interval", "from 0.8 down to 0.2", "smaller end first"],
        ),
        ({"synthesis": {"affine": {"scale": [1.2, 0.8]}}}, ["synthesis.affine.scale", "from 1.2 down to 0.8"]),
        (
            {"generators__styled": {"preset": "improved", "style": {"dropout": 0.0}}},
            ["generators.styled: sampling.guidance_scale needs style.dropout above 0"],
        ),
        (
            {
                "generators__styled__data": "zero_shot",
                "generators__styled__layout_dropout": 0.0,
                "generators__styled__sampling": {"layout_guidance_scale": 2.0},
            },
            ["generators.styled: sampling.layout_guidance_scale needs layout_dropout above 0"],
        ),
        (
            {"generators__styled__training": {"batch_size": 1}},
            ["generators.styled: annotated_fraction 0.5 of training.batch_size 1 is no patch at all"],
        ),
        (
            {"segmentation__loss": {"cross_entropy": 0, "dice": 0}},
            ["segmentation.loss: cross_entropy and dice are both 0"],
        ),
        (
            {"patches__tissue": {"min_saturation": 0.2, "max_saturation": 0.1}},
            ["patches.tissue: min_saturation (0.2) is above max_saturation (0.1)"],
        ),
        (
            {"classes": [{"name": f"c{n}", "color": "#000000"} for n in range(256)]},
            ["classes: ", "at most 255"],
        ),
    ],
)
def test_what_numpy_or_training_would_stumble_over_is_refused(values, parts):
    found = messages(**values)
    assert len(found) == 1
    assert all(part in found[0] for part in parts), found


def test_layout_guidance_without_dropout_is_fine_where_unannotated_patches_show_the_null_layout():
    sampling = {"layout_guidance_scale": 2.0}
    validate(changed(generators__styled__layout_dropout=0.0, generators__styled__sampling=sampling), "config.yaml")


def test_255_classes_leave_room_for_the_ignored_label():
    classes = [{"name": f"c{n}", "color": "#000000"} for n in range(255)]
    assert len(validate(changed(classes=classes), "config.yaml").classes) == 255


def test_options_of_a_stage_hold_only_what_it_uses():
    study = validate(STUDY, "config.yaml")
    options = SegmentationOptions.of(study, arm="styled", split="n2-r0", seed="0")
    other = validate(changed(segmentation__seeds=[0, 1], arms__styled__label="another"), "config.yaml")
    assert SegmentationOptions.of(other, arm="styled", split="n2-r0", seed="0") == options
    longer = validate(changed(segmentation__training__steps=11), "config.yaml")
    assert SegmentationOptions.of(longer, arm="styled", split="n2-r0", seed="0") != options
    assert SegmentationOptions.parse(options.model_dump_json()) == options


def test_what_changes_no_result_is_no_part_of_a_trainings_identity():
    plain, other = (
        GeneratorOptions.of(validate(changed(**values), "config.yaml"), generator="styled")
        for values in (
            {},
            {
                "generators__styled__training": {"checkpoint_minutes": 1, "workers": 3},
                "generators__styled__sampling": {"steps": 7},
            },
        )
    )
    assert plain != other
    assert plain.identity() == other.identity()
    slower = validate(changed(generators__styled__training={"learning_rate": 1e-5}), "config.yaml")
    assert GeneratorOptions.of(slower, generator="styled").identity() != plain.identity()


@pytest.mark.parametrize(
    ("label", "shown"),
    [
        ("real\tonly", "real only"),
        ("real \r\n  only\n", "real only"),
        ("real\u2028only", "real only"),
        ("réal  ✓ 患者 \U0001f52c", "réal  ✓ 患者 \U0001f52c"),
    ],
)
def test_tabs_and_breaks_of_lines_in_a_label_are_blanks(label, shown):
    assert validate(changed(arms__real__label=label), "s.yaml").arms["real"].label == shown


@pytest.mark.parametrize("character", ["\0", "\a", "\b", "\x1b[31m", "\x7f", "\u202e", "\ufeff"])
def test_other_control_characters_in_a_label_are_refused_by_its_key(character):
    (message,) = messages(arms__real__label=f"real{character}only")
    assert "arms.real.label: the characters" in message
    assert "cannot be shown; leave them out" in message


@pytest.mark.parametrize("label", ["", " ", "\n"])
def test_an_empty_label_is_refused(label):
    (message,) = messages(arms__real__label=label)
    assert "arms.real.label: it is empty" in message


@pytest.mark.parametrize(
    "text",
    [
        "strict: 2001-99-99",
        "seed: !!int x",
        "seed: !!timestamp x",
        "seed: 1" + ":59" * 3000,
        "? [a]\n: b",
        "a: !!set x",
    ],
)
def test_values_that_yaml_cannot_make_are_refused(tmp_path, text):
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(STUDY) + text + "\n")
    with pytest.raises(UserError):
        load(tmp_path / "s.yaml")


def test_a_configuration_of_megabytes_is_refused(tmp_path):
    (tmp_path / "s.yaml").write_text("# \n" * 2**19)
    with pytest.raises(UserError, match=r"s\.yaml: has more than 1 MiB"):
        load(tmp_path / "s.yaml")


@pytest.mark.parametrize("values", [{"patches__mpp": float("inf")}, {"splits__repeats": 10**9}])
def test_numbers_without_end_are_refused(values):
    assert len(messages(**values)) == 1
