"""A generator that trains in a second, for the tests that need one."""

from stedm.config import Device, Generator, NoFirstStage, merge
from stedm.diffusion.training import train_generator

TINY = {
    "preset": "demo",
    "unet": {"channels": [16, 32], "attention": [False, True], "blocks_per_level": 1, "head_dim": 8},
    "style": {"images": 2, "encoder": {"dim": 16}, "tokens": 2},
    "training": {"steps": 3, "batch_size": 4, "ema_decay": 0.5},
    "sampling": {"steps": 2},
}


def options(**over):
    return Generator.model_validate(merge(TINY, over))


def train(study, chosen, name="model", first_stage=None):
    out = study / name
    stage = first_stage or NoFirstStage(unshuffle=4)
    train_generator(chosen, stage, 2, Device(), study / "split.csv", study / "patches", 0, study / "work", out)
    return out
