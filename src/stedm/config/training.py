"""What every training has, and the device that it runs on."""

from typing import Annotated, Literal

from pydantic import Field

from stedm.config.base import CHANGES_NO_RESULT, Count, Positive, Section


class Training(Section):
    """What every training has: length, optimizer, checkpoints."""

    steps: Count
    """Optimizer steps."""
    batch_size: Count = 16
    """Patches in a step."""
    learning_rate: Positive = 1e-4
    """Learning rate of AdamW after the warm-up."""
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    """Steps in which the learning rate rises from 0."""
    decay: Literal["constant", "linear", "cosine"] = "constant"
    """How the learning rate falls after the warm-up."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """Weight decay of AdamW."""
    gradient_clip: Positive = 1.0
    """Largest norm of the gradient."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.9999
    """Decay of the exponential moving average of the weights, which is what is kept; 0 keeps the last weights."""
    checkpoint_minutes: Annotated[Positive, CHANGES_NO_RESULT] = 10.0
    """Minutes between checkpoints."""
    workers: Annotated[int | None, Field(ge=0), CHANGES_NO_RESULT] = None
    """Processes that load data; 0 loads in the training process; null: 0 on the CPU, with CUDA one for each core but
    one, at most 8."""


Tracker = Literal["tensorboard", "wandb", "mlflow"]
"""Where trainings may report their loss while they run; packages of their own, which the user installs."""


class Device(Section):
    """How CUDA is used where there is one."""

    precision: Literal["fp32", "bf16"] = "bf16"
    """The CPU always computes in fp32."""
    compile: Annotated[bool, CHANGES_NO_RESULT] = False
    """Compile networks on CUDA: the first batch takes a minute longer, the others less time."""


DEFAULT_DEVICE = Device()
