"""Presets of a generator: where a study's configuration is silent, these speak.

`paper` is the published method as its released code parameterises it, with that code's defects corrected; `improved` is
the default for real studies; `demo` fits two CPU cores.
"""

from typing import Any

PAPER: dict[str, Any] = {
    "data": "zero_shot",
    "layout_dropout": 0.0,
    "style": {
        "sampler": "multi_patch",
        "images": 10,
        "encoder": {"name": "swin_v2_t", "trainable": True, "dim": 512},
        "aggregator": "mean",
        "tokens": 1,
        "injection": "middle",
        "dropout": 0.25,
        "null": "constant_image",
        "exclude_overlap": False,
    },
    "unet": {"channels": [128, 512, 1024], "attention": [False, False, False], "layout": "halved"},
    "objective": {
        "prediction": "epsilon",
        "loss": "l1",
        "min_snr_gamma": None,
        "snr_floor": 0.0,
        "timesteps": 1000,
        "beta_schedule": "scaled_linear",
        "beta_start": 0.0015,
        "beta_end": 0.0205,
    },
    "training": {"steps": 3906, "batch_size": 64, "learning_rate": 1.6e-6, "weight_decay": 0.01, "ema_decay": 0.9999},
    "sampling": {"sampler": "ddim", "steps": 128, "guidance_scale": 1.5},
}

IMPROVED: dict[str, Any] = {
    "data": "semi_supervised",
    "style": {
        "sampler": "multi_patch",
        "images": 4,
        "encoder": {"name": "swin_v2_t", "trainable": True, "dim": 512, "size": 256},
        "tokens": 4,
        "canonical": True,
    },
    "unet": {"layout_channels": 32},
    "training": {"steps": 100_000, "batch_size": 64, "learning_rate": 1e-4, "warmup_steps": 1000},
    # Noise of 0.3 to 3 times the image's deviation: above, guidance harms, below, it does nothing (Kynkäänniemi et al.
    # 2024, arXiv 2404.07724).
    "sampling": {"steps": 16, "guidance_interval": (0.2, 0.8)},
}

DEMO: dict[str, Any] = {
    "data": "semi_supervised",
    "style": {
        "sampler": "multi_patch",
        "images": 4,
        "encoder": {"name": "conv", "trainable": True, "dim": 128},
        "tokens": 4,
        "canonical": True,
    },
    "unet": {
        "channels": [32, 48, 64, 96],
        "attention": [False, False, False, False],  # in the middle alone
        "blocks_per_level": 1,
        "head_dim": 16,
    },
    "training": {
        "steps": 2000,
        "batch_size": 8,
        "learning_rate": 1e-3,
        "warmup_steps": 50,
        "decay": "linear",
        "ema_decay": 0.995,
        "checkpoint_minutes": 2,
    },
    # From noise, so small a network paints no tissue.
    "sampling": {"steps": 25, "strength": 0.5, "guidance_scale": 1.0, "batch_size": 64},
}

PRESETS = {"paper": PAPER, "improved": IMPROVED, "demo": DEMO}
