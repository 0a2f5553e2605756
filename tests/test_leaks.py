"""No stage that prepares, trains or generates opens a file of a test patient: shown by the files that are opened."""

import pytest
import segmentation_models_pytorch as smp
from tiny import options, save_network, train

from stedm.config import (
    Device,
    FirstStageOptions,
    GeneratorRun,
    ImageEvaluation,
    ImageEvaluationOptions,
    LatentsOptions,
    Plan,
    PlanOptions,
    ShardOptions,
    StyleBankOptions,
    TrainedFirstStage,
)
from stedm.evaluation.quality import evaluate_images
from stedm.first_stage import encode_latents, train_first_stage
from stedm.store import ImageFile
from stedm.style.bank import embed_patches
from stedm.synthesis import generate_shard, plan_images, write_manifest


@pytest.fixture
def opened(monkeypatch):
    names = set()
    original = ImageFile.__init__

    def recorded(self, path):
        names.add(path.stem)
        original(self, path)

    monkeypatch.setattr(ImageFile, "__init__", recorded)
    return names


def test_generator_bank_and_synthesis(tiny_study, opened):
    split, patches = tiny_study / "split.csv", tiny_study / "patches"
    chosen = options(training={"steps": 1})
    generator = train(tiny_study, chosen)
    bank = StyleBankOptions(encoder=chosen.style.encoder)
    embed_patches(bank, split, patches, out=tiny_study / "bank", generator=generator)
    plan_images(PlanOptions(synthesis=Plan(images=4), seed=0), split, patches, out=tiny_study / "plan.csv")
    shard = tiny_study / "0.h5"
    generate_shard(
        ShardOptions(class_names=["stroma", "tumour"], filter=None),
        generator,
        tiny_study / "plan.csv",
        0,
        patches,
        out=shard,
        style_bank=tiny_study / "bank",
    )
    manifest = tiny_study / "manifest.csv"
    write_manifest(tiny_study / "plan.csv", [shard], out=manifest)
    evaluator = tiny_study / "evaluator"
    unet = smp.Unet("tu-resnet18", encoder_weights=None, encoder_depth=3, decoder_channels=[8, 8, 8], classes=2)
    save_network(unet, evaluator)
    run = GeneratorRun(study="tiny", split="n2-r0", annotated_patients=2, repeat=0, generator="styled")
    how = ImageEvaluationOptions(evaluation=ImageEvaluation(), run=run, seed=0)
    evaluate_images(how, manifest, [shard], split, patches, out=tiny_study / "quality", evaluator=evaluator)
    assert opened == {"A1", "A2", "U1", "U2", "0"}


def test_first_stage_and_latents(tiny_study, opened):
    split, patches = tiny_study / "split.csv", tiny_study / "patches"
    stage = TrainedFirstStage(kind="trained", channels=[16, 16], training={"steps": 1, "batch_size": 2})
    folders = {"first_stage": tiny_study / "stage", "latents": tiny_study / "latents"}
    chosen = FirstStageOptions(first_stage=stage, device=Device(), seed=0)
    train_first_stage(chosen, split, patches, work=tiny_study / "work", out=folders["first_stage"])
    encode_latents(LatentsOptions(device=Device()), folders["first_stage"], split, patches, out=folders["latents"])
    train(tiny_study, options(style={"whiten": False}, training={"steps": 1}), folders=folders, first_stage=stage)
    assert opened == {"A1", "A2", "U1", "U2"}
