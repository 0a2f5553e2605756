import pytest
from test_config import changed
from tiny import generator_options, options

from stedm.config import Generator, GeneratorOptions, SegmentationOptions, validate
from stedm.cost import generator_operations, network_operations
from stedm.requests import cores, memory_mb, operations, shard_minutes, training_minutes


def improved(**training):
    chosen = Generator.model_validate({"preset": "improved", "training": {"steps": 1} | training})
    return generator_options(chosen)


def test_memory_grows_with_the_batches_that_wait():
    few, many = (memory_mb(improved(workers=workers), 512, 1) for workers in (0, 8))
    image = 4 * 512**2 * (1 + 4)  # an image with its layout and four style images, 8 bits a value
    assert many - few == pytest.approx(16 * 64 * image / 2**20 + 8 * 300, abs=2)
    assert memory_mb(improved(batch_size=128), 512, 1) > memory_mb(improved(), 512, 1)


def test_a_job_of_many_cores_has_memory_for_as_many_workers_as_it_starts():
    assert memory_mb(improved(), 512, 9) == memory_mb(improved(workers=8), 512, 1)
    assert memory_mb(improved(), 512, 99) == memory_mb(improved(workers=8), 512, 1)


def test_a_checkpoint_fits():
    """253 million parameters, their average and two moments."""
    assert memory_mb(improved(workers=0), 64, 1) > 16 * 253e6 / 2**20 + 2_000
    assert memory_mb(generator_options(options()), 64, 1) < 4_000


def test_each_process_that_loads_data_has_a_core():
    assert cores(improved(workers=5)) == 6
    assert cores(improved()) == 1


def study(**values):
    return validate(changed(**values), "study.yaml")


@pytest.mark.parametrize("preset", ["demo", "improved", "paper"])
@pytest.mark.parametrize("unshuffle", [2, 4])
def test_operations_are_at_most_a_few_times_those_that_torch_counts(preset, unshuffle):
    some = study(first_stage={"kind": "none", "unshuffle": unshuffle}, generators__styled={"preset": preset})
    guess = operations(GeneratorOptions.of(some, generator="styled"), some.patches.size)
    image, style = generator_operations(some, some.generators["styled"])
    assert 1 < guess / (image + some.generators["styled"].style.images * style) < 6


@pytest.mark.parametrize("encoder", ["resnet34", "mit_b2", "tu-tf_efficientnet_lite0"])
def test_operations_of_usual_segmentation_networks_are_not_underestimated(encoder):
    some = study(segmentation__encoder=encoder)
    guess = operations(SegmentationOptions.of(some, arm="real", seed="0"), some.patches.size)
    assert guess > network_operations(some.segmentation, len(some.classes), some.patches.size)


def test_time_follows_from_steps_batch_and_the_gpu_and_is_at_most_a_day():
    short, long = (training_minutes(improved(steps=steps), 512, 40) for steps in (2_000, 4_000))
    assert 60 < short < long < 1_440
    assert long == pytest.approx(2 * short, abs=2)
    assert training_minutes(improved(steps=4_000, batch_size=32), 512, 40) == pytest.approx(short, abs=2)
    assert training_minutes(improved(steps=4_000), 512, 80) == pytest.approx(short, abs=2)
    assert training_minutes(improved(steps=100_000), 512, 40) == 1_440
    assert training_minutes(generator_options(options()), 64, 40) == 60


def test_time_of_a_shard_follows_from_its_images_and_only_where_they_are_sampled():
    values = {
        "generators__styled": {"preset": "improved"},
        "patches__size": 512,
        "first_stage": {"kind": "none", "unshuffle": 4},
        "sources": {"other": {"kind": "recolour"}},
    }
    one, four = (study(**values, synthesis={"images": 40_000, "shards": shards}) for shards in (1, 4))
    assert 60 < shard_minutes(four, "styled", 40) < shard_minutes(one, "styled", 40) < 1_440
    assert shard_minutes(one, "styled", 40) == pytest.approx(4 * shard_minutes(four, "styled", 40), rel=0.02)
    assert shard_minutes(one, "other", 40) == 60
