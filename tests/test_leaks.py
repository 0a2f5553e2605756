"""No stage that prepares, trains or generates opens a file of a test patient: shown by the files that are opened."""

from functools import partial

import pytest
import segmentation_models_pytorch as smp
import tiny
from tiny import options, train

from stedm.config import (
    Device,
    FirstStageOptions,
    ImageEvaluation,
    ImageEvaluationOptions,
    LatentsOptions,
    PseudoLabels,
    Recolour,
    SourceRun,
    StyleBankOptions,
    TrainedFirstStage,
)
from stedm.evaluation.layout import network_predictor
from stedm.evaluation.quality import evaluate_images
from stedm.first_stage import encode_latents, train_first_stage
from stedm.store import ImageFile
from stedm.style.bank import embed_patches
from stedm.synthesis.pseudo_labels import pseudo_labels
from stedm.synthesis.recolour import recolour
from stedm.synthesis.shard import write_manifest


@pytest.fixture
def opened(monkeypatch):
    names = set()
    original = ImageFile.__init__

    def recorded(self, path):
        names.add(path.stem)
        original(self, path)

    monkeypatch.setattr(ImageFile, "__init__", recorded)
    return names


@pytest.fixture
def network(tmp_path):
    """An untrained segmentation network."""
    architecture = {"encoder_depth": 3, "decoder_channels": [8, 8, 8], "classes": 2}
    tiny.save_network(smp.Unet("tu-resnet18", encoder_weights=None, **architecture), tmp_path / "network")
    return tmp_path / "network"


def evaluate(study, shard, network):
    """The manifest of a shard and the evaluation of its images."""
    write_manifest(study / "plan.csv", [shard.path], out=study / "manifest.csv")
    run = SourceRun(study="tiny", split="split", annotated_patients=2, repeat=0, source="some")
    how = ImageEvaluationOptions(evaluation=ImageEvaluation(), run=run, seed=0)
    inputs = study / "manifest.csv", [shard.path], study / "split.csv", study / "patches"
    evaluate_images(how, *inputs, out=study / "quality", evaluator=network, structure_network=network)


def test_generator_and_style_bank(tiny_study, opened, network):
    chosen = options(training={"steps": 1})
    generator = train(tiny_study, chosen)
    split, patches, bank = tiny_study / "split.csv", tiny_study / "patches", tiny_study / "bank"
    embedding = StyleBankOptions(generator_name="styled", encoder=chosen.style.encoder, canonical=True)
    embed_patches(embedding, split, patches, out=bank, generator=generator)
    tiny.plan(tiny_study, images=4, shards=1)
    evaluate(tiny_study, tiny.generated(tiny_study, generator, bank), network)
    assert opened == {"A1", "A2", "U1", "U2", "0"}


def test_recolouring(tiny_study, opened, network):
    tiny.plan(tiny_study, images=8, shards=1)
    evaluate(tiny_study, tiny.shard(tiny_study, recolour, Recolour(kind="recolour")), network)
    assert opened == {"A1", "A2", "U1", "U2", "0"}


def test_pseudo_labels(tiny_study, opened, network):
    source = PseudoLabels(kind="pseudo_labels", arm="real", confidence=0)
    tiny.plan(tiny_study, source.kind, images=8, shards=1)
    assert opened == {"U1", "U2"}
    label = partial(pseudo_labels, predict=network_predictor(network), thresholds=source.thresholds(tiny.CLASSES))
    shard = tiny.shard(tiny_study, label, source)
    assert opened == {"U1", "U2", "0"}
    evaluate(tiny_study, shard, network)
    assert opened == {"A1", "A2", "U1", "U2", "0"}


def test_first_stage_and_latents(tiny_study, opened):
    split, patches = tiny_study / "split.csv", tiny_study / "patches"
    stage = TrainedFirstStage(kind="trained", channels=[16, 16], training={"steps": 1, "batch_size": 2})
    folders = {"first_stage": tiny_study / "stage", "latents": tiny_study / "latents"}
    chosen = FirstStageOptions(first_stage=stage, canonical=False, device=Device(), seed=0)
    train_first_stage(chosen, split, patches, work=tiny_study / "work", out=folders["first_stage"])
    encoding = LatentsOptions(canonical=False, device=Device())
    encode_latents(encoding, folders["first_stage"], split, patches, out=folders["latents"])
    train(tiny_study, options(style={"canonical": False}, training={"steps": 1}), folders=folders, first_stage=stage)
    assert opened == {"A1", "A2", "U1", "U2"}
