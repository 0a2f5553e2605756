"""What a training asks the scheduler for, from its options: cores, memory, time.

Memory is that of the host: the libraries, the batches that wait for the device, and a checkpoint, which is read there.
Time is that of the operations on a GPU, counted without torch, which the planning of a study does without: bounds from
the numbers of channels (`stedm.cost` counts the networks themselves).
"""

import math
from collections.abc import Sequence

from stedm.config import FirstStageOptions, Generator, GeneratorOptions, SegmentationOptions, Study, TrainingOptions
from stedm.config.generator import FirstStage, latent_factor

LIBRARIES_MB = 3_000
"""Of torch with CUDA, and what the system keeps of files."""
WORKER_MB = 300
"""Of a process that loads data, beyond what it shares with the training."""
PREFETCHED = 2
"""Batches that each of them has ready."""
MOST_WORKERS = 8
STATE_BYTES = 16
"""Of a parameter in a checkpoint: weight, average and two moments, in 32 bits each."""
PARAMETERS_PER_CHANNELS = 150
"""At most so many parameters for each block of a level of a generator, times the square of the level's channels."""
NETWORK_PARAMETERS = 60_000_000
"""Of a segmentation network or first stage, at most, as they are usual."""
TRAINING = 3
"""Forward, and twice as much backward."""
NETWORK_OPERATIONS = 500_000
"""Of a segmentation network for each pixel, at most, as they are usual."""
STYLE_OPERATIONS = {"conv": 5_000}
"""Of a style encoder for each pixel that it sees."""
OTHER_STYLE_OPERATIONS = 450_000
"""Of all others: Swin-V2-T at 64 px, which at 256 px needs less than half of that."""
FINEST_FACTOR = 4
"""Pixels along each side of a pretrained autoencoder's latent pixel, at least: it is not loaded to be asked."""
LEAST_MINUTES, MOST_MINUTES = 60, 24 * 60
"""Of a job: starting, reading and waiting take time too, and partitions have limits; a training's retry goes on."""


def cores(options: TrainingOptions) -> int:
    """Cores of a training: its own, and one for each process that loads data where their number is given."""
    return 1 + (options.training.workers or 0)


def memory_mb(options: TrainingOptions, patch_size: int, cores: int) -> int:
    """Memory of a training.

    Args:
        options: of the training.
        patch_size: P, in pixels.
        cores: of the job.
    """
    workers = options.training.workers
    workers = min(MOST_WORKERS, cores - 1) if workers is None else workers
    waiting = (workers * PREFETCHED + 2) * options.training.batch_size * item_bytes(options, patch_size)
    return LIBRARIES_MB + workers * WORKER_MB + (waiting + STATE_BYTES * parameters(options)) // 2**20


def training_minutes(options: TrainingOptions, patch_size: int, tflops: float) -> int:
    """Time of a training, at most a day.

    Args:
        options: of the training.
        patch_size: P, in pixels.
        tflops: 10¹² operations a second that a training reaches on the GPU.
    """
    step = TRAINING * options.training.batch_size * operations(options, patch_size)
    return minutes(options.training.steps * step, tflops)


def shard_minutes(study: Study, source: str, tflops: float) -> int:
    """Time of a shard of a source, at most a day."""
    chosen = study.all_sources[source]
    generator = study.generators.get(getattr(chosen, "generator", ""))
    if generator is None:  # nothing is sampled
        return LEAST_MINUTES
    sampling = generator.sampling
    branches = 1 + (sampling.guidance_scale > 1) + (sampling.layout_guidance_scale > 1)
    images = math.ceil(study.synthesis.images / study.synthesis.shards)
    each = unet_operations(generator, study.first_stage, study.patches.size)
    return minutes(images * sampling.steps * branches * each, tflops)


def minutes(operations: float, tflops: float) -> int:
    return min(MOST_MINUTES, max(LEAST_MINUTES, math.ceil(operations / (tflops * 1e12) / 60)))


def item_bytes(options: TrainingOptions, patch_size: int) -> int:
    """Of a patch with what belongs to it, as it waits: images in 8 bits, latents in less than that."""
    return int((1 + other_images(options)) * 4 * patch_size**2)


def other_images(options: TrainingOptions) -> float:
    """Images that belong to a patch: its style set, or the synthetic ones beside it."""
    match options:
        case GeneratorOptions(generator=generator) if generator.style.encoder.trainable:
            return generator.style.images
        case SegmentationOptions(segmentation=network, arm=arm) if arm.sources:
            return network.synthetic_ratio if arm.synthetic_ratio is None else arm.synthetic_ratio
    return 0


def operations(options: TrainingOptions, patch_size: int) -> float:
    """Of the forward pass of a patch with what belongs to it: at most, about, as multiplications and additions."""
    match options:
        case GeneratorOptions(generator=generator):
            encoder = generator.style.encoder
            style = STYLE_OPERATIONS.get(encoder.name, OTHER_STYLE_OPERATIONS)
            style *= min(patch_size, encoder.size or patch_size) ** 2
            return unet_operations(generator, options.first_stage, patch_size) + other_images(options) * style
        case FirstStageOptions(first_stage=stage):
            return level_operations(stage.channels, 1, patch_size)
        case SegmentationOptions():
            return (1 + other_images(options)) * NETWORK_OPERATIONS * patch_size**2
    raise TypeError(options)


def unet_operations(generator: Generator, first_stage: FirstStage, patch_size: int) -> float:
    """Of one pass of a generator's U-Net, for one image; see `operations`."""
    side = patch_size / (latent_factor(first_stage) or FINEST_FACTOR)
    return level_operations(generator.unet.channels, generator.unet.blocks_per_level, side)


def level_operations(channels: Sequence[int], blocks: int, side: float) -> float:
    """Of levels of convolutions, each of half the side: two for a parameter at each place."""
    return sum(
        2 * PARAMETERS_PER_CHANNELS * blocks * width**2 * (side / 2**level) ** 2 for level, width in enumerate(channels)
    )


def parameters(options: TrainingOptions) -> int:
    """At most, about."""
    match options:
        case GeneratorOptions(generator=generator):
            unet = generator.unet
            return PARAMETERS_PER_CHANNELS * unet.blocks_per_level * sum(width**2 for width in unet.channels)
        case FirstStageOptions() | SegmentationOptions():
            return NETWORK_PARAMETERS
    raise TypeError(options)
