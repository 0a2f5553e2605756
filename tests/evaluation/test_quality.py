"""Generated images evaluated: their layout by a known network, their style by images whose slide is known."""

import json

import numpy as np
import pandas as pd
import pytest
from filled import write_filled
from scipy.ndimage import gaussian_filter

from stedm.config import ImageEvaluation, ImageEvaluationOptions, QualitySummary, QualitySummaryOptions, SourceRun
from stedm.errors import UserError
from stedm.evaluation import layout as layouts
from stedm.evaluation import quality
from stedm.evaluation.quality import clustered, evaluate_images, summarise_quality
from stedm.shards import Generated, write_shard
from stedm.store import PatchFile, write_patches
from stedm.tables import IMAGES, MANIFEST, SETS

NAMES = ["stroma", "tumour"]
RUN = SourceRun(study="s", split="n1-r0", annotated_patients=1, repeat=0, source="styled")
MADE_FOR = {"source": RUN.source, "split": RUN.split, "styled": True}
COLOURS = {"A": (200, 120, 180), "B": (120, 80, 160), "C": (230, 170, 190), "D": (180, 60, 120)}
BLUR = {"A": 0.5, "B": 1.0, "C": 2.0, "D": 4.0}


def patch(patient, rng, blur=None):
    """A patch in a patient's colour and grain."""
    grain = gaussian_filter(rng.normal(size=(32, 32)), blur or BLUR[patient])
    pixels = np.array(COLOURS[patient]) + 25 * (grain / grain.std())[..., None]
    return pixels.clip(0, 255).astype(np.uint8)


def layout():
    """Half stroma, half tumour, with the first rows unannotated."""
    labels = np.zeros((32, 32), np.uint8)
    labels[:, 16:] = 1
    labels[:4] = 255
    return labels


@pytest.fixture
def study(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    patches = tmp_path / "patches"
    rows = []
    for patient, role in (("A", "annotated"), ("B", "unannotated"), ("C", "unannotated"), ("D", "unannotated")):
        write_patches(
            patches / f"S{patient}.h5",
            [(patch(patient, rng), layout() if patient == "A" else None, (32 * n, 0), 1.0) for n in range(20)],
            32,
            NAMES,
            {"slide": f"S{patient}", "patient": patient, "downsample": 1.0},
        )
        rows.append((f"S{patient}", patient, "", role, role == "annotated"))
    rows.append(("ST", "T", "", "test", True))  # no patch file: test slides are not looked at
    columns = ["slide", "patient", "group", "role", "labelled"]
    pd.DataFrame(rows, columns=columns).to_csv(tmp_path / "split.csv", index=False)

    def evaluate(generated, images=100, evaluator=None, structure_network=None, extract=None):
        """`generated` has (style patient, image), image numbers in its order, in two shards written out of order."""
        monkeypatch.setattr(quality, "feature_extractor", lambda name, evaluator: extract)
        rows = [
            {"source": RUN.source, "split": RUN.split, "image": n, "layout_slide": "SA", "layout_patch": 0}
            | {"style_slide": f"S{patient}" if patient else ""}
            for n, (patient, _) in enumerate(generated)
        ]
        write_filled(MANIFEST, rows, tmp_path / "manifest.csv")
        shards = []
        for number in (1, 0):
            members = [(n, image) for n, (_, image) in enumerate(generated) if n % 2 == number]
            shards.append(tmp_path / f"{number}.h5")
            images_of = [Generated(n, image, layout(), 0) for n, image in members]
            write_shard(shards[-1], images_of, 32, NAMES, MADE_FOR)
        out = tmp_path / "image_quality" / "styled" / "n1-r0"
        how = ImageEvaluation(evaluated_images=images, batch_size=3)
        options = ImageEvaluationOptions(evaluation=how, run=RUN, seed=0)
        manifest, split = tmp_path / "manifest.csv", tmp_path / "split.csv"
        networks = {"evaluator": evaluator, "structure_network": structure_network}
        evaluate_images(options, manifest, shards, split, patches, out=out, **networks)
        return pd.read_csv(out / "images.csv", keep_default_na=True)

    return evaluate


def test_images_in_the_style_of_a_slide_are_found_nearest_to_it(study):
    rng = np.random.default_rng(1)
    evaluated = study([(patient, patch(patient, rng)) for patient in "BCD" * 4])
    for kind in ("moments", "colour", "spectrum"):
        assert evaluated[f"{kind}_nearer_to_own_slide"].all()
        assert evaluated[f"{kind}_nearest_is_own_patient"].all()
        assert list(evaluated[f"{kind}_nearest_patient"]) == list("BCD" * 4)
        assert (evaluated[f"real_{kind}_nearest_is_own_patient"] >= 0.9).all()
    assert (evaluated["chance"] == 0.25).all()
    assert list(evaluated["style_patient"]) == list("BCD" * 4)
    assert evaluated["layout_iou"].isna().all()
    assert not [name for name in evaluated if "structure" in name]  # there is no network for it


def test_colour_and_spectrum_are_evaluated_apart(study):
    """The colour of the style's slide, as fine or coarse as the annotated patient."""
    rng = np.random.default_rng(1)
    evaluated = study([(patient, patch(patient, rng, blur=BLUR["A"])) for patient in "BCD" * 4])
    assert evaluated["colour_nearest_is_own_patient"].mean() > 0.9
    assert not evaluated["spectrum_nearest_is_own_patient"].any()
    assert not evaluated["spectrum_nearer_to_own_slide"].any()


def test_images_that_look_like_the_annotated_patients_are_told(study):
    rng = np.random.default_rng(1)
    evaluated = study([(patient, patch("A", rng)) for patient in "BCD" * 2])
    assert not evaluated["moments_nearer_to_own_slide"].any()
    assert set(evaluated["moments_nearest_patient"]) == {"A"}


def test_an_image_without_style_has_no_slide_of_its_own(study):
    rng = np.random.default_rng(1)
    evaluated = study([("B", patch("B", rng)), ("", patch("A", rng))])
    assert evaluated["moments_distance_to_own_slide"].isna().tolist() == [False, True]
    assert evaluated["moments_nearer_to_own_slide"].isna().tolist() == [False, True]
    assert evaluated["moments_nearest_patient"].tolist() == ["B", "A"]


def test_no_more_images_are_evaluated_than_asked(study):
    rng = np.random.default_rng(1)
    evaluated = study([(patient, patch(patient, rng)) for patient in "BCD" * 4], images=5)
    assert len(evaluated) == 5
    assert evaluated["image"].is_unique
    assert evaluated["moments_nearest_is_own_patient"].all()  # the images drawn are the rows' own


def test_the_network_is_asked_about_the_layout(study, tmp_path, monkeypatch):
    def predict(network, images):
        """Sees tumour in the right three quarters, whatever there is."""
        tumour = np.zeros(images.shape[:3], np.float32)
        tumour[..., 8:] = 1
        return np.stack([1 - tumour, tumour], 1)

    monkeypatch.setattr(layouts, "load_network", lambda folder, _: folder)
    monkeypatch.setattr(layouts, "predict_probabilities", predict)
    (tmp_path / "model.safetensors").write_bytes(b"its weights")
    of_both = {"evaluator": tmp_path, "structure_network": tmp_path}
    evaluated = study([("B", patch("B", np.random.default_rng(1)))] * 4, **of_both)
    np.testing.assert_allclose(evaluated["iou_stroma"], 8 / 16, rtol=1e-5)
    np.testing.assert_allclose(evaluated["iou_tumour"], 16 / 24, rtol=1e-5)
    np.testing.assert_allclose(evaluated["layout_iou"], (8 / 16 + 16 / 24) / 2, rtol=1e-5)
    np.testing.assert_allclose(evaluated["real_layout_iou"], evaluated["layout_iou"], rtol=1e-5)  # of the same layout
    made_from = json.loads((tmp_path / "image_quality/styled/n1-r0/provenance.json").read_text())["inputs"]
    assert set(made_from) == {"SA", "SB", "SC", "SD", "shard 0", "shard 1", "evaluator", "structure network"}


def thumbnail(images):
    """A feature extractor that needs no network: means of blocks of 8 × 8 pixels."""
    return images.reshape(-1, 4, 8, 4, 8, 3).mean((2, 4)).reshape(len(images), -1) - 128


def test_copies_of_a_training_patch_are_told_and_named(study, tmp_path):
    rng = np.random.default_rng(1)
    source = PatchFile(tmp_path / "patches/SB.h5")
    drawn = [("B", source.image(7))] + [("B", patch("A", rng) // 2 + 100) for _ in range(3)]
    evaluated = study(drawn, extract=thumbnail)
    assert evaluated["closest_slide"][0] == "SB" and evaluated["closest_patch"][0] == 7
    assert evaluated["closest_distance"][0] == pytest.approx(0, abs=1e-6)
    assert evaluated["close_to_training"].tolist() == [1, 0, 0, 0]


def test_generated_sets_are_compared_with_real_patches_and_these_with_each_other(study, tmp_path):
    rng = np.random.default_rng(1)
    study([(patient, patch("A", rng)) for patient in "BCD" * 6], extract=thumbnail)
    sets = pd.read_csv(tmp_path / "image_quality/styled/n1-r0/sets.csv").set_index(["images_of", "metric"])
    assert sets.loc[("generated", "fid"), "value"] > 10 * sets.loc[("real", "fid"), "value"]
    assert sets.loc[("generated", "precision"), "value"] < 0.2 < 0.8 < sets.loc[("real", "precision"), "value"]
    assert (sets["images"] == 18).all() and (sets["features"] == "segmenter").all()
    options = QualitySummaryOptions(evaluation=QualitySummary(bootstrap=200), seed=0)
    summarise_quality(options, [tmp_path / "image_quality/styled/n1-r0"], out=tmp_path / "summary.csv")
    summary = pd.read_csv(tmp_path / "summary.csv").set_index(["images_of", "metric"])
    assert summary.loc[("generated", "fid"), "value"] == sets.loc[("generated", "fid"), "value"]
    assert summary.loc[("real", "kid"), "deviation"] == sets.loc[("real", "kid"), "deviation"] > 0
    assert summary.loc[("generated", "diversity"), "features"] == "segmenter"
    assert summary.loc[("generated", "structure_share_nearest_is_own_patient"), "features"] == "segmenter"
    assert summary.loc[("real", "share_close_to_training"), "value"] == pytest.approx(0.05, abs=0.06)


def test_patients_whose_names_look_like_nothing_are_clusters_of_images(tmp_path):
    """Two patients of ten equal images each: the interval is that of two values, not of eleven."""
    ious = [0.0] * 10 + [1.0] * 10
    folder = tmp_path / "styled" / "n1-r0"
    folder.mkdir(parents=True)
    SETS.write(pd.DataFrame(columns=list(SETS.columns)), folder / "sets.csv")
    widths = []
    for names in (("NA", "None"), ("A", "B")):
        patients = [names[0]] * 10 + [names[1]] * 10
        rows = [{"style_patient": name, "layout_iou": value} for name, value in zip(patients, ious, strict=True)]
        write_filled(IMAGES, rows, folder / "images.csv")
        options = QualitySummaryOptions(evaluation=QualitySummary(bootstrap=200), seed=0)
        found = summarise_quality(options, [folder], out=tmp_path / "out")
        row = found.query("images_of == 'generated'").set_index("metric").loc["layout_iou"]
        widths.append(row["high"] - row["low"])
    assert widths[0] == widths[1] > 0


def test_shards_of_another_manifest_are_refused(study, tmp_path):
    study([("B", patch("B", np.random.default_rng(1)))] * 4)
    write_filled(MANIFEST, [{"source": RUN.source, "split": RUN.split, "image": 7}], tmp_path / "other.csv")
    options = ImageEvaluationOptions(evaluation=ImageEvaluation(), run=RUN, seed=0)
    shards, split = [tmp_path / "0.h5"], tmp_path / "split.csv"
    with pytest.raises(UserError, match=r"other\.csv: its images are not those of"):
        evaluate_images(options, tmp_path / "other.csv", shards, split, tmp_path / "patches", out=tmp_path / "out.csv")


def test_the_summary_counts_shares_and_the_level_of_chance(study, tmp_path):
    rng = np.random.default_rng(1)
    study([(patient, patch(patient if number else "A", rng)) for number, patient in enumerate("BBBBCCDD")])
    out = tmp_path / "image_quality.csv"
    options = QualitySummaryOptions(evaluation=QualitySummary(bootstrap=500), seed=0)
    summarise_quality(options, [tmp_path / "image_quality" / "styled" / "n1-r0"], out=out)
    table = pd.read_csv(out).query("images_of == 'generated'").set_index("metric")
    assert set(table["source"]) == {"styled"} and set(table["annotated_patients"]) == {1}
    assert table.loc["moments_share_nearest_is_own_patient", "value"] == 7 / 8
    assert table.loc["moments_share_nearer_to_own_slide", "value"] == 7 / 8
    assert table.loc["chance_nearest_is_own_patient", "value"] == 0.25
    assert table.loc["moments_share_nearest_is_own_patient", "images"] == 8
    assert (
        table.loc["moments_share_nearest_is_own_patient", "low"]
        < 7 / 8
        < table.loc["moments_share_nearest_is_own_patient", "high"]
        <= 1
    )
    assert table.loc["layout_iou", "images"] == 0 and np.isnan(table.loc["layout_iou", "value"])


def test_intervals_are_wider_where_images_share_their_patient():
    values = pd.Series([0.0, 1.0] * 50)
    people = pd.Series([f"P{n // 10}" for n in range(100)])
    alike = values.groupby(people).transform(lambda own: float(own.name in ("P0", "P3", "P4", "P6", "P8")))
    for metric in ("layout_iou", "moments_share_nearer_to_own_slide"):
        together = clustered(metric, alike, people, 500, 0)
        apart = clustered(metric, values, pd.Series([""] * 100), 500, 0)
        assert together[0] == apart[0] == 0.5
        assert together[2] - together[1] > 2 * (apart[2] - apart[1])
        assert apart[2] - apart[1] == pytest.approx(2 * 1.96 * 0.05, rel=0.15)  # binomial, 100 images
