"""The Poisson sampler's edges, and tables that are read by number."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dpsynth.errors import GuaranteeVoid
from dpsynth.privacy.noise.entropy import AesEntropy, FixedEntropy
from dpsynth.privacy.training.sampling import (
    MappedUnits,
    PoissonSampler,
    ResidentUnits,
    as_store,
    parquet_blocks,
)


@pytest.mark.parametrize("num_units, sample_rate", [(0, 0.5), (10, 0.0)])
def test_no_units_or_no_rate_gives_empty_batches(num_units, sample_rate):
    batch = PoissonSampler(num_units, sample_rate, AesEntropy()).draw()
    assert batch.shape == (0,) and batch.dtype == torch.int64


def test_rate_one_takes_every_unit():
    assert PoissonSampler(7, 1.0, AesEntropy()).draw().tolist() == list(range(7))


@pytest.mark.parametrize("sample_rate", [-0.1, 1.1])
def test_a_rate_that_is_no_probability_is_refused(sample_rate):
    with pytest.raises(ValueError, match="sample_rate"):
        PoissonSampler(10, sample_rate, AesEntropy())


@pytest.mark.parametrize("num_units, sample_rate", [(50, 0.3), (20_000, 0.001), (20_000, 0.2)])
def test_a_batch_holds_distinct_ascending_unit_numbers(num_units, sample_rate):
    sampler = PoissonSampler(num_units, sample_rate, AesEntropy())
    for _ in range(20):
        batch = sampler.draw()
        assert bool((batch[1:] > batch[:-1]).all())
        assert len(batch) == 0 or (0 <= int(batch[0]) and int(batch[-1]) < num_units)


def test_batch_sizes_vary_as_poisson_sampling_demands():
    # Variance of Binomial(1000, 0.5) is 250; 400 draws put the sample variance within 250 ± 5.3 * 17.7.
    sampler = PoissonSampler(1000, 0.5, AesEntropy())
    sizes = np.array([len(sampler.draw()) for _ in range(400)])
    assert abs(sizes.var() - 250.0) < 94.0
    assert abs(sizes.mean() - 500.0) < 5.3 * np.sqrt(250.0 / 400)


def test_resident_units_are_read_by_number():
    units = torch.arange(12.0).reshape(6, 2)
    store = as_store(units)
    assert isinstance(store, ResidentUnits) and len(store) == 6
    assert store.take(torch.tensor([4, 0])).tolist() == [[8.0, 9.0], [0.0, 1.0]]
    assert as_store(store) is store


def test_mapped_units_equal_resident_ones(tmp_path):
    units = torch.randn(1000, 3, 4)
    blocks = (units[start : start + 130].numpy() for start in range(0, 1000, 130))
    store = MappedUnits(blocks, folder=str(tmp_path))
    sampler = PoissonSampler(1000, 0.2, FixedEntropy(1))
    for _ in range(5):
        batch = sampler.draw()
        assert torch.equal(store.take(batch), units[batch])
    assert len(store) == 1000
    assert list(tmp_path.iterdir()) == []  # no private row has a name on disk


def test_mapped_units_may_be_empty():
    store = MappedUnits([])
    assert len(store) == 0


def test_blocks_of_different_shape_are_refused():
    with pytest.raises(GuaranteeVoid, match="differ in shape"):
        MappedUnits([np.zeros((2, 3)), np.zeros((2, 4))])


def test_a_parquet_file_is_packed_block_by_block(tmp_path):
    import pandas as pd

    frame = pd.DataFrame({"a": np.arange(500.0), "b": np.arange(500.0) ** 2})
    frame.to_parquet(tmp_path / "table.parquet", row_group_size=64)
    store = MappedUnits(
        parquet_blocks(str(tmp_path / "table.parquet"), lambda f: f.to_numpy(np.float32), rows=90)
    )
    index = torch.tensor([0, 89, 90, 499])
    assert torch.equal(store.take(index), torch.from_numpy(frame.to_numpy(np.float32))[index])
