"""Errors of a regression, against scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import mean_squared_error

from lightning_alrnn.metrics import ConstantMSE, MaskedMSE


@pytest.mark.parametrize("count", [0, 1, 9])
def test_no_targets_and_targets_that_do_not_vary(count: int) -> None:
    metric = ConstantMSE(2)
    metric.update(torch.zeros(count, 2), torch.full((count, 2), 0.1))
    assert 0 <= float(metric.compute()) < 1e-8


@pytest.mark.parametrize("masked", [False, True])
def test_what_does_not_count_is_left_out(masked: bool) -> None:
    random = np.random.default_rng(1)
    outputs, targets = random.normal(2.0, 3.0, (2, 10, 7, 3)).astype("float32")
    counted = random.random((10, 7)) < (0.5 if masked else 2.0)
    error, constant = MaskedMSE(), ConstantMSE(3)
    error.update(torch.ones(2, 3), torch.zeros(2, 3), torch.zeros(2, dtype=torch.bool))
    assert torch.isnan(error.compute())
    targets[~counted] = np.nan
    for rows in np.split(np.arange(10), 5):
        mask = torch.tensor(counted[rows]) if masked else None
        for metric in (error, constant):
            metric.update(torch.tensor(outputs[rows]), torch.tensor(targets[rows]), mask)
    outputs, targets = outputs[counted], targets[counted]
    assert float(error.compute()) == pytest.approx(mean_squared_error(targets, outputs), rel=1e-5)
    means = np.broadcast_to(targets.mean(axis=0), targets.shape)
    assert float(constant.compute()) == pytest.approx(mean_squared_error(targets, means), rel=1e-5)
