"""What a study costs: arithmetic operations of its trainings, and how many of them this machine does in a second.

Rough by nature: operations are counted on networks without weights, and the rate is that of a layer like theirs, timed
for a second, as if nothing else ran here. Reading, writing and the starts of jobs are not in it, nor is a first stage.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

from stedm.config import Generator, Network, NoFirstStage, Study
from stedm.config.generator import latent_factor

TRAINING = 3
"""Forward, and twice as much backward."""
PRETRAINED_FACTOR, PRETRAINED_CHANNELS = 8, 4
"""Of the usual published autoencoder, which is not loaded to be asked."""


@dataclass(frozen=True)
class Machine:
    """What computes here.

    Attributes:
        name: of the device, for people.
        cuda: whether it is a GPU.
        memory: bytes of the device.
        rate: operations a second of one training at a time on a GPU, or of all cores together.
    """

    name: str
    cuda: bool
    memory: int
    rate: float


@dataclass(frozen=True)
class Costs:
    """Operations of a study's trainings, on all splits and with all seeds together.

    Attributes:
        generators: of one step of each generator, by name.
        sampling: of all images of each generator, by name.
        networks: of one step of all segmentation networks.
    """

    generators: dict[str, float]
    sampling: dict[str, float]
    networks: float

    def total(self, study: Study) -> float:
        """Operations of the study's trainings and of its synthetic images."""
        trained = sum(self.generators[name] * item.training.steps for name, item in study.generators.items())
        return trained + sum(self.sampling.values()) + self.networks * study.segmentation.training.steps


def costs_of(study: Study) -> Costs:
    """Count the operations of a study's generators and networks."""
    splits, arms = len(study.splits.all), {study.trained_arm(name) for name in study.arms}
    generators, sampling = {}, {}
    for name, generator in study.generators.items():
        image, style = generator_operations(study, generator)
        generators[name] = TRAINING * splits * generator.training.batch_size * (image + generator.style.images * style)
        guided = (generator.sampling.guidance_scale > 1) + (generator.sampling.layout_guidance_scale > 1)
        sampling[name] = splits * study.synthesis.images * generator.sampling.steps * (1 + guided) * image
    image = network_operations(study.segmentation, len(study.classes), study.patches.size)
    batches = 0.0
    for name in arms:
        arm = study.arms[name]
        ratio = arm.synthetic_ratio if arm.synthetic_ratio is not None else study.segmentation.synthetic_ratio
        batches += 1 + ratio if arm.sources else 1
    networks = TRAINING * splits * len(study.segmentation.seeds) * study.segmentation.training.batch_size * image
    return Costs(generators, sampling, networks * batches)


def generator_operations(study: Study, generator: Generator) -> tuple[float, float]:
    """Operations of one forward pass of the U-Net, for one image, and of the style encoder, for one style image (0
    where its embeddings are cached, or where it is not ours to build)."""
    import torch

    from stedm.diffusion.model import build_unet
    from stedm.style.conditioner import build_conditioner

    size, stage = study.patches.size, study.first_stage
    factor = latent_factor(stage) or PRETRAINED_FACTOR
    channels = PRETRAINED_CHANNELS
    if isinstance(stage, NoFirstStage):
        channels = 3 * factor**2
    elif stage.kind == "trained":
        channels = stage.latent_channels
    style = generator.style
    with torch.device("meta"):
        unet = build_unet(generator, len(study.classes), factor, channels)
        noisy = torch.empty(1, channels, size // factor, size // factor)
        layout = torch.zeros(1, size, size, dtype=torch.long)
        time_step = torch.zeros(1, dtype=torch.long)
        tokens, pooled = torch.empty(1, style.tokens, style.encoder.dim), torch.empty(1, style.encoder.dim)
        image = operations(lambda: unet(noisy, time_step, layout, tokens, pooled))
        ours = style.encoder.name in ("conv", "swin_v2_t")
        if style.sampler == "none" or not ours or not style.encoder.trainable:
            return image, 0.0
        conditioner = build_conditioner(style, None)
        return image, operations(lambda: conditioner.embed(torch.empty(1, 3, size, size)))


def network_operations(network: Network, classes: int, size: int) -> float:
    """Operations of one forward pass of the segmentation network, for one patch."""
    import torch

    from stedm.segmentation.network import build_unet

    unet = build_unet(network, None, classes).to("meta").eval()
    return operations(lambda: unet(torch.empty(1, 3, size, size, device="meta")))


def operations(run: Callable[[], object]) -> float:
    """Multiplications and additions of convolutions, products and attention."""
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    with counter:
        run()
    return float(counter.get_total_flops())


def this_machine(precision: str = "bf16") -> Machine:
    """The device that trainings would run on here, timed."""
    import torch

    from stedm.device import device, device_name

    cuda = device().type == "cuda"
    if cuda:
        memory = torch.cuda.get_device_properties(device()).total_memory
        return Machine(device_name(), True, memory, rate_of(256, 64, 16, precision))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        rate = rate_of(64, 32, 8, "fp32")
    finally:
        torch.set_num_threads(before)
    return Machine(f"{cores} CPU core{'s' * (cores > 1)}", False, memory, rate * cores)


def rate_of(channels: int, side: int, batch: int, precision: str, seconds: float = 1.0) -> float:
    """Operations a second of convolutions like those of the networks, forward and backward, with norms between them.

    Args:
        channels: of the maps.
        side: of the maps, in pixels.
        batch: of maps.
        precision: "bf16", or "fp32" for whatever else.
        seconds: that it may take.
    """
    import torch
    from torch import nn

    from stedm.config import Device
    from stedm.device import autocast, device

    def layer() -> nn.Module:
        return nn.Sequential(nn.GroupNorm(16, channels), nn.SiLU(), nn.Conv2d(channels, channels, 3, padding=1))

    block = nn.Sequential(layer(), layer()).to(device())
    maps = torch.randn(batch, channels, side, side, device=device(), requires_grad=True)
    each = TRAINING * 2 * 2 * 9 * channels**2 * side**2 * batch  # two layers, a multiplication and an addition
    clock = time.monotonic if device().type == "cuda" else time.process_time  # of a busy CPU, the share that was ours
    times: list[float] = []
    while len(times) < 4 or sum(times) < seconds:
        start = clock()
        with autocast(Device(precision="bf16" if precision == "bf16" else "fp32")):
            loss = block(maps).float().square().mean()
        loss.backward()
        if device().type == "cuda":
            torch.cuda.synchronize()
        times.append(clock() - start)
    return each / min(times)
