"""Agreement of spikes: against numpy on all the counts at once, and over two processes."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from lightning_alrnn.metrics import ConditionAverages, SpikeAgreement, WeightedSum

B, T, N, G, P, M = 23, 9, 5, 4, 2, 3


class Drawn(NamedTuple):
    spikes: Tensor
    mean: Tensor
    variance: Tensor
    lengths: Tensor
    group: Tensor


def draw() -> Drawn:
    """Trials with junk past their ends; condition 3 never occurs, trials 5 and 6 are of none."""
    generator = torch.Generator().manual_seed(0)
    group = torch.randint(0, 3, (B,), generator=generator)
    group[5], group[6] = -1, 9
    base = torch.rand(1, 1, N, generator=generator) + 0.3 * torch.rand(B, T, N, generator=generator)
    spikes = torch.poisson(base * 2, generator)
    spikes[..., 4] = 0  # a silent unit
    mean = base * (1 + 0.3 * torch.rand(1, 1, N, generator=generator))
    lengths = torch.randint(1, T + 1, (B,), generator=generator)
    beyond = torch.arange(T) >= lengths[:, None]
    spikes[beyond], mean[beyond] = 7.0, 5.0
    return Drawn(spikes, mean, mean * 1.5, lengths, group)


def states() -> Tensor:
    return torch.randn(B, T, M, generator=torch.Generator().manual_seed(4))


def by_hand(data: Drawn, grouped: bool) -> dict[str, float]:
    """Correlations of all valid counts at once, in float64."""
    spikes, mean, variance = ([values[b, : data.lengths[b]].double().numpy() for b in range(B)] for values in data[:3])
    group = data.group.tolist() if grouped else [0] * B
    conditions = [g for g in range(G if grouped else 1) if g in group]
    rates = [
        np.stack([np.concatenate([one[b] for b in range(B) if group[b] == g]).mean(0) for g in conditions])
        for one in (spikes, mean)
    ]
    x, m, v = np.concatenate(spikes), np.concatenate(mean), np.concatenate(variance)
    own, expected = (x.mean(0), x.var(0)), (m.mean(0), v.mean(0) + m.var(0))
    fires = own[0] > 0

    def r(a: Any, b: Any) -> float:
        return float(np.corrcoef(np.ravel(a), np.ravel(b))[0, 1])

    found = {
        "rate_correlation": r(*rates),
        "cv_correlation": r(*(np.sqrt(var[fires]) / mean[fires] for mean, var in (own, expected))),
        "fano_correlation": r(*(var[fires] / mean[fires] for mean, var in (own, expected))),
    }
    if grouped:
        found["tuning_correlation"] = r(*(values - values.mean(0) for values in rates))
    return found


def update(metric: SpikeAgreement, data: Drawn, part: Tensor, grouped: bool = True) -> None:
    spikes, mean, variance, lengths, group = (values[part] for values in data)
    metric.update(spikes, mean, variance, lengths, group if grouped else None)


def numbers(found: dict[str, Tensor]) -> dict[str, float]:
    return {name: float(value) for name, value in found.items()}


@pytest.mark.parametrize("grouped", [True, False])
def test_agreement_in_batches(grouped: bool) -> None:
    data = draw()
    metric = SpikeAgreement(N, G if grouped else 0)
    for part in torch.arange(B).split(6):
        update(metric, data, part, grouped)
    expected = by_hand(data, grouped)
    assert numbers(metric.compute()) == pytest.approx(expected, rel=1e-4)
    assert numbers(pickle.loads(pickle.dumps(metric)).compute()) == pytest.approx(expected, rel=1e-4)
    found = metric.statistics()
    assert bool(found.fano[4].isnan())
    if grouped:
        assert bool(found.rates[3].isnan().all())
    metric.reset()
    assert not metric.bins
    update(metric, data, torch.arange(B), grouped)
    assert numbers(metric.compute()) == pytest.approx(expected, rel=1e-4)


def test_what_the_model_samples_has_its_statistics() -> None:
    """The law of total variance: counts drawn from the model have the Fano factors computed without drawing."""
    torch.manual_seed(0)
    mean = 4 * torch.rand(400, 50, 3)
    metric = SpikeAgreement(3)
    metric.update(torch.poisson(mean), mean, mean, torch.full((400,), 50))
    statistics = metric.statistics()
    for name in ("rates", "cv", "fano"):
        data, model = (getattr(statistics, prefix + name) for prefix in ("", "expected_"))
        torch.testing.assert_close(data, model, rtol=0.03, atol=0)


def test_edges_are_nan_under_the_same_keys() -> None:
    metric, one = SpikeAgreement(1, 2), torch.ones(1, 1, 1)
    metric.update(one, one, one, torch.tensor([1]), torch.tensor([0]))
    values = numbers(metric.compute())
    assert set(values) == {f"{name}_correlation" for name in ("rate", "tuning", "cv", "fano")}
    assert all(math.isnan(value) for value in values.values())


def test_an_update_does_not_wait_for_the_device() -> None:
    metric = SpikeAgreement(N, G).to("meta")
    spikes, trials = torch.zeros(2, T, N, device="meta"), torch.zeros(2, dtype=torch.int64, device="meta")
    metric.update(spikes, spikes, spikes, trials, trials)
    averages = ConditionAverages(G, N, P).to("meta")
    averages.update(spikes, spikes, spikes, trials, trials)
    assert metric.spikes.device.type == averages.spikes.device.type == "meta"  # type: ignore[union-attr]


@pytest.mark.parametrize("longest", [4, T, 30])
@pytest.mark.parametrize("nonlinear", [0, P, M])
def test_averages_by_condition_and_bin(longest: int, nonlinear: int) -> None:
    data, z = draw(), states()
    metric = ConditionAverages(G, N, nonlinear, longest)
    for part in torch.arange(B).split(7):
        metric.update(data.spikes[part], data.mean[part], z[part], data.lengths[part], data.group[part])
    found = metric.compute()
    pairs = []
    for g in range(G):
        for t in range(longest):
            rows = [b for b in range(B) if data.group[b] == g and data.lengths[b] > t]
            assert int(found["trials"][g, t]) == len(rows)
            if rows:
                expected_of = {"spikes": data.spikes, "rates": data.mean, "on": (z > 0)[..., M - nonlinear :]}
                for name, values in expected_of.items():
                    torch.testing.assert_close(found[name][g, t], values[rows, t].float().mean(0))
                pairs.append((data.spikes[rows, t].mean(0).numpy(), data.mean[rows, t].mean(0).numpy()))
            else:
                assert bool(found["spikes"][g, t].isnan().all())
    expected = np.corrcoef(*(np.concatenate(column) for column in zip(*pairs, strict=True)))[0, 1]
    assert float(found["psth_correlation"]) == pytest.approx(expected, rel=1e-4)


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="conditions must be at least 1, got 0"):
        ConditionAverages(0, N, P)
    with pytest.raises(ValueError, match="max_steps must be at least 1, got 0"):
        ConditionAverages(1, N, P, 0)


def test_weighted_sum_is_of_the_means_of_its_terms() -> None:
    generator = torch.Generator().manual_seed(0)
    values, weights = torch.randn(7, 3, generator=generator), torch.rand(7, 3, generator=generator)
    weights[:, 2] = 0  # no weight counts as 0, as in WeightedMean
    metric = WeightedSum([2.0, 0.5, 9.0])
    for value, weight in zip(values, weights, strict=True):
        metric.update(value, weight)
    means = [np.average(values[:, i].numpy(), weights=weights[:, i].numpy()) for i in range(2)]
    assert float(metric.compute()) == pytest.approx(2.0 * means[0] + 0.5 * means[1], rel=1e-5)


def shares(rank: int, world_size: int) -> list[dict[str, float]]:
    """Every second trial on each process; then all of them on the second, none on the first."""
    data, z, found = draw(), states(), []
    for mine in (torch.arange(B)[rank::world_size], torch.arange(B if rank == 1 else 0)):
        agreement, averages, loss = SpikeAgreement(N, G), ConditionAverages(G, N, P, 6), WeightedSum([1.0, 2.0])
        for part in mine.split(4) if len(mine) else ():
            update(agreement, data, part)
            averages.update(data.spikes[part], data.mean[part], z[part], data.lengths[part], data.group[part])
            for trial in part:
                loss.update(data.mean[trial, 0, :2], data.lengths[trial] * torch.tensor([1.0, 0.5]))
        psth = averages.compute()
        statistics = agreement.statistics()
        found.append(
            numbers(agreement.compute())
            | {"loss": float(loss.compute()), "psth": float(psth["psth_correlation"])}
            | {f"on{i}": float(value) for i, value in enumerate(psth["on"].nan_to_num(-1).flatten())}
            | {f"rate{i}": float(value) for i, value in enumerate(statistics.expected_rates.nan_to_num(-1).flatten())}
        )
    return found


@pytest.mark.filterwarnings("ignore:The ``compute`` method of metric:UserWarning")  # a process without data
def test_two_processes_count_as_one(processes: Callable[..., list[Any]], tmp_path: Path) -> None:
    alone = shares(0, 1)[0]
    assert not math.isnan(alone["tuning_correlation"])
    for each in processes(shares, tmp_path):
        for found in each:
            assert found == pytest.approx(alone, rel=1e-4)  # sums of rates are float32
