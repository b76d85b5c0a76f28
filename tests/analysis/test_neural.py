"""Pearson's correlation and tuning; the sums are tested with the metric that holds them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_alrnn.analysis import pearson
from lightning_alrnn.analysis.neural import tuning

numbers = st.floats(-1e3, 1e3).map(lambda value: round(value, 3))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(numbers, numbers), min_size=2, max_size=30), st.integers(0, 3))
def test_pearson_is_numpys(pairs: list[tuple[float, float]], missing: int) -> None:
    x, y = (torch.tensor(column, dtype=torch.float64) for column in zip(*pairs, strict=True))
    found = float(pearson(*(torch.cat((v, torch.full((missing,), w))) for v, w in ((x, math.nan), (y, 1.0)))))
    if float(x.std()) < 1e-6 or float(y.std()) < 1e-6:
        assert math.isnan(found)
    else:
        assert found == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-9)


@pytest.mark.parametrize("values", [[], [1.0], [0.1, 0.1, 0.1], [math.nan, math.nan, 2.0]])
def test_pearson_of_what_does_not_vary_is_nan(values: list[float]) -> None:
    x = torch.tensor(values)
    other = torch.arange(len(values), dtype=torch.float32)
    assert math.isnan(float(pearson(x, other)))
    assert math.isnan(float(pearson(other, x)))


def test_tuning_leaves_out_conditions_that_never_occur() -> None:
    nan = math.nan
    found = tuning(torch.tensor([[1.0, 5.0], [nan, nan], [3.0, 5.0]]))
    torch.testing.assert_close(found, torch.tensor([[-1.0, 0.0], [nan, nan], [1.0, 0.0]]), equal_nan=True)
