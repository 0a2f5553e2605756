"""What a training asks the scheduler for, from its options.

Memory is that of the host: the libraries, the batches that wait for the device, and a checkpoint, which is read there.
"""

from stedm.config import FirstStageOptions, GeneratorOptions, SegmentationOptions, TrainingOptions

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


def item_bytes(options: TrainingOptions, patch_size: int) -> int:
    """Of a patch with what belongs to it, as it waits: images in 8 bits, latents in less than that."""
    images = 1.0
    match options:
        case GeneratorOptions(generator=generator):
            images += generator.style.images if generator.style.encoder.trainable else 0
        case SegmentationOptions(segmentation=network, arm=arm) if arm.sources:
            images += network.synthetic_ratio if arm.synthetic_ratio is None else arm.synthetic_ratio
    return int(images * 4 * patch_size**2)


def parameters(options: TrainingOptions) -> int:
    """At most, about."""
    match options:
        case GeneratorOptions(generator=generator):
            unet = generator.unet
            return PARAMETERS_PER_CHANNELS * unet.blocks_per_level * sum(width**2 for width in unet.channels)
        case FirstStageOptions() | SegmentationOptions():
            return NETWORK_PARAMETERS
    raise TypeError(options)
