"""The one training loop: of first stage, generator and segmentation network."""

import contextlib
import hashlib
import logging
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader, Dataset

from stedm import config
from stedm.checkpoint import Clock, WorkFolder, leave_stopping_to_the_training, work_folder
from stedm.device import autocast, default_workers, device, device_name, to_device
from stedm.errors import Interrupted, UserError
from stedm.files import fingerprint, provenance, readable, write_json, written_whole
from stedm.processes import BatchRng, rank, world_size
from stedm.progress import Budget, Progress, plot_loss
from stedm.splits import read_split
from stedm.versions import VERSIONS

Batch = dict[str, Tensor]
Objective = Callable[[Any, Batch, BatchRng], Tensor]
"""(model, this process's items of a batch on the device, random numbers for them) → scalar loss."""
HISTORY_ROWS = 200
LOOK_EVERY = 50
"""Steps after which losses are looked at, at the latest: looking makes the device wait for the host."""
AGREE_EVERY = {"cuda": 10, "cpu": 1}
"""Steps after which several processes look whether one was told to stop: torchrun kills them half a minute later."""
log = logging.getLogger(__name__)


def train_and_save(
    stage: str,
    options: config.TrainingOptions,
    model: nn.Module,
    objective: Objective,
    batches: Dataset[Batch],
    split: Path,
    inputs: dict[str, str],
    save: Callable[[Any, Path], None],
    preview: Callable[[Any, Path], None] | None = None,
    *,
    work: Path,
    out: Path,
) -> None:
    """Train a model, or go on from its newest checkpoint, and write its folder.

    The work folder is named by all that the result depends on: the stage's version, the identity of the options, what
    the split says of the slides, and the fingerprints of all inputs.

    Args:
        stage: its name among `VERSIONS`.
        options: of the training.
        model: see `train`.
        objective: see `train`.
        batches: see `train`.
        split: table of roles.
        inputs: fingerprint of each slide and of everything else that the training reads, by name.
        save: writes the files of the trained model into a folder.
        preview: see `train`.
        work: folder for checkpoints; one inside is named by options and inputs.
        out: folder of the model, with history.csv and provenance.json.

    Raises:
        Interrupted, UserError: as `train`.
    """
    table = read_split(split)
    slides = table.loc[table["slide"].isin(inputs), ["slide", "patient", "role"]].to_numpy().tolist()
    key = fingerprint(VERSIONS[stage], options.identity(), split.stem, slides, inputs)
    words = stage.replace("_", " "), options.name, split.stem, f"seed {options.seed}"
    trained, history = train(
        *(model, objective, batches, options.training, options.device, options.seed, work / key),
        title=" ".join(dict.fromkeys(words)),
        preview=preview,
        trackers=options.trackers,
    )
    if rank() > 0:
        return
    history.insert(0, "name", options.name)
    with written_whole(out) as folder:
        save(trained, folder)
        readable(folder)
        history.to_csv(folder / "history.csv", index=False)
        made_from = provenance(options.model_dump(mode="json"), inputs, options.seed, device_name())
        write_json(folder / "provenance.json", made_from | {"split": split.stem})


def train(
    model: nn.Module,
    objective: Objective,
    batches: Dataset[Batch],
    options: config.Training,
    device_options: config.Device,
    seed: int,
    work: Path,
    *,
    title: str = "training",
    preview: Callable[[Any, Path], None] | None = None,
    trackers: Sequence[config.Tracker] = (),
) -> tuple[nn.Module, pd.DataFrame]:
    """Train a model, or go on from the newest checkpoint in the work folder.

    Randomness at a step is a function of (seed, step) and so are the batches, so a training that was killed and resumed
    ends with the same weights, to the bit on one CPU. Several processes (see `processes`) share each batch and train
    what one trains, up to rounding; the first one writes the checkpoints. Batch normalisation takes its statistics from
    the whole batch on CUDA, and from each process's items on the CPU.

    Args:
        model: its parameters that require gradients are trained.
        objective: the loss of a batch; what is random in it comes from the numbers that it is given.
        batches: map-style data set whose item i is this process's share of the batch of step i.
        options: length, optimizer, checkpoints.
        device_options: precision of the forward pass on CUDA.
        seed: of everything random.
        work: work folder, named by the fingerprint of options and inputs; see `progress` for what lies there.
        title: what is trained, to show.
        preview: writes pictures of what the average of the model does into a folder; it must leave the model and the
            global random generators as they are.
        trackers: that the loss is reported to.

    Returns:
        The exponential moving average of the model, on the device in eval mode, and the history: step, loss (mean
        since the row before), seconds, images_seen. The same in all processes.

    Raises:
        Interrupted: a signal asked to stop, and the state is saved; or another process trains there.
        UserError: a loss is not finite (told within 50 steps, and no checkpoint has what came of it), the processes
            cannot share a batch evenly, or a tracker is not installed.
    """
    check_installed(trackers)
    accelerator = Accelerator(cpu=device().type == "cpu", log_with=list(trackers) or None, project_dir=work)
    if options.batch_size % accelerator.num_processes:
        raise UserError(
            f"training.batch_size: {options.batch_size} items cannot be shared by {accelerator.num_processes} processes"
        )
    model = model.to(device()).train()
    average = AveragedModel(model)
    if accelerator.num_processes > 1 and device().type == "cuda":
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    optimizer = torch.optim.AdamW(
        [parameter for parameter in model.parameters() if parameter.requires_grad],
        lr=options.learning_rate,
        weight_decay=options.weight_decay,
        fused=True,
    )
    update_average = moving_average(options.ema_decay, average.module, model)
    alone = accelerator.num_processes == 1
    look_every = LOOK_EVERY if alone else AGREE_EVERY[device().type]
    flags = torch.tensor([0.0, 1.0], device=device())
    history: list[list[float]] = []
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(work_folder(work))
        accelerator.wait_for_everyone()  # the first process has the folder now, or has refused it
        start = 0
        losses: list[float] = []
        if (state := folder.newest()) is not None:
            model.load_state_dict(state["model"])
            average.load_state_dict(state["average"])
            optimizer.load_state_dict(state["optimizer"])
            start, history, losses = state["step"], state["history"], state["losses"]
            log.info("going on from step %d of %d (%s)", start, options.steps, work)

        def save(step: int) -> None:
            if not accelerator.is_main_process:
                return
            folder.save(
                step,
                {
                    "model": model.state_dict(),
                    "average": average.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "history": history,
                    "losses": losses,
                },
            )
            history_table(history).to_csv(work / "history.csv", index=False)

        def renew_pictures() -> None:
            if not accelerator.is_main_process or not history or not budget.allows():
                return
            with budget.spent():
                plot_loss(history_table(history), work / "loss.png")
                if preview is not None:
                    preview(average.module.eval(), work)  # the average's mode matters here alone

        loss_of = accelerator.prepare(LossOf(model, objective))
        if trackers:
            settings = {"title": title, "seed": seed} | options.model_dump()
            accelerator.init_trackers("stedm", settings, {"wandb": {"name": title}, "mlflow": {"run_name": title}})
            stack.callback(lambda: [tracker.finish() for tracker in accelerator.trackers])
        clock, budget = Clock(options.checkpoint_minutes), Budget()
        since, stop, latest = time.monotonic(), False, float("nan")
        unseen: list[Tensor] = []
        every = max(1, options.steps // HISTORY_ROWS)
        shown = stack.enter_context(
            Progress(title, device_name(), start, options.steps, work if accelerator.is_main_process else None)
        )
        workers = default_workers() if options.workers is None else options.workers
        for step, batch in enumerate(loader(start, options.steps, batches, workers), start):
            rng = BatchRng(seed, step)
            torch.manual_seed(rng.generator.initial_seed())  # for layers that take no generator, such as dropout
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, options)
            with autocast(device_options):
                loss = loss_of(to_device(batch), rng)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            norm = nn.utils.clip_grad_norm_(model.parameters(), options.gradient_clip)
            figures = torch.stack([loss.detach().float(), norm, flags[int(folder.stop_requested)]])
            unseen.append(accelerator.reduce(figures, "mean"))
            optimizer.step()
            update_average(step)
            average.n_averaged.add_(1)

            due, last = clock.due(), step + 1 == options.steps
            row, agreed = (step + 1) % every == 0 or last, (step + 1) % look_every == 0
            if due or row or agreed or step == start or (alone and folder.stop_requested):
                looked_at = look(unseen, step, folder)
                losses += looked_at[:, 0].tolist()
                latest, stop = float(looked_at[:, 0].mean()), stop or bool(looked_at[:, 2].any())
            if row:
                now = time.monotonic()
                history.append([step + 1, float(np.mean(losses)), now - since, (step + 1) * items(batch)])
                if trackers:
                    accelerator.log({"loss": history[-1][1], "learning_rate": learning_rate(step, options)}, step + 1)
                losses, since = [], now
            shown.update(step + 1, latest)
            if stop and (alone or agreed):
                save(step + 1)
                accelerator.wait_for_everyone()  # or torchrun would stop the first process while it writes
                raise Interrupted(f"{work}: stopped by a signal after step {step + 1}; run again to go on from there")
            if due or last:
                save(step + 1)
            if due and not last:
                renew_pictures()
    accelerator.end_training()
    trained: Any = average.module.eval()
    return trained.to(memory_format=torch.contiguous_format), history_table(history)


def history_table(history: list[list[float]]) -> pd.DataFrame:
    table = pd.DataFrame(history, columns=["step", "loss", "seconds", "images_seen"])
    return table.astype({"step": int, "images_seen": int})


def check_installed(trackers: Sequence[str]) -> None:
    """Accelerate would leave out a tracker that is not installed, and say nothing.

    Raises:
        UserError: it is not.
    """
    if missing := [name for name in trackers if find_spec(name) is None]:
        raise UserError(
            [f"trackers: {name} is not installed here; `pip install {name}`, or take it out" for name in missing]
        )


def look(unseen: list[Tensor], step: int, folder: WorkFolder) -> np.ndarray:
    """Look at the steps that the host has not seen, and forget them: the device has to finish them first.

    Args:
        unseen: loss, norm of the gradient, and share of processes told to stop, of each step.
        step: the last of them.
        folder: named in the error.

    Returns:
        (n, 3) the same.

    Raises:
        UserError: a loss or norm is not finite.
    """
    found = torch.stack(unseen).cpu().numpy()
    unseen.clear()
    for before, (loss, norm, _) in enumerate(found, start=step - len(found) + 1):
        if not np.isfinite(loss + norm):
            last = folder.checkpoints()[-1].name if folder.checkpoints() else "none"
            raise UserError(
                f"{folder.path}: the loss is {loss} and the norm of its gradient {norm} at step {before}; last good"
                f" checkpoint: {last}. Lower training.learning_rate, or set device.precision to fp32"
            )
    return found


def items(batch: Batch) -> int:
    """Of the whole batch, of which this is one process's share."""
    return len(next(iter(batch.values()))) * world_size()


class LossOf(nn.Module):
    """The objective as a module, which is what processes are synchronised around."""

    def __init__(self, model: nn.Module, objective: Objective):
        super().__init__()
        self.model, self.objective = model, objective

    def forward(self, batch: Batch, rng: BatchRng) -> Tensor:
        return self.objective(self.model, batch, rng)


def moving_average(decay: float, average: nn.Module, model: nn.Module) -> Callable[[int], None]:
    """Exponential moving average of parameters and buffers; whole numbers are taken over.

    Its decay rises as (1 + n) / (10 + n), so that short trainings forget their start.

    Args:
        decay: at most.
        average: a copy of the model.
        model: is trained.

    Returns:
        Updates the average after step n = 0, 1, …
    """
    averaged, current = ([*module.parameters(), *module.buffers()] for module in (average, model))
    pairs = list(zip(averaged, current, strict=True))
    numbers = [pair for pair in pairs if pair[0].is_floating_point()]
    others = [pair for pair in pairs if not pair[0].is_floating_point()]

    @torch.no_grad()
    def update(n: int) -> None:
        if n > 0:
            weight = 1 - min(decay, (1 + n) / (10 + n))
            torch._foreach_lerp_([one for one, _ in numbers], [one for _, one in numbers], weight)
        for target, source in others if n > 0 else pairs:
            target.copy_(source)

    return update


def learning_rate(step: int, options: config.Training) -> float:
    """Linear warm-up, then constant, or falling to zero linearly or as a half cosine."""
    rate = options.learning_rate * min(1.0, (step + 1) / max(1, options.warmup_steps))
    done = max(0.0, (step - options.warmup_steps) / max(1, options.steps - options.warmup_steps))
    match options.decay:
        case "linear":
            return rate * (1 - done)
        case "cosine":
            return rate * 0.5 * (1 + float(np.cos(np.pi * done)))
        case _:
            return rate


def loader(start: int, steps: int, batches: Dataset[Batch], workers: int) -> DataLoader[Batch]:
    """The batches from step `start` on."""
    return DataLoader(
        batches,
        batch_size=None,
        sampler=range(start, steps),
        num_workers=workers,
        worker_init_fn=leave_stopping_to_the_training,
        pin_memory=torch.cuda.is_available(),
    )


def weights_fingerprint(model: nn.Module) -> str:
    """SHA-256 of all parameters and buffers, by name."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
