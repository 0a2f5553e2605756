import pytest
from tiny import generator_options, options

from stedm.config import Generator
from stedm.requests import cores, memory_mb


def improved(**training):
    chosen = Generator.model_validate({"preset": "improved", "training": {"steps": 1, **training}})
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
