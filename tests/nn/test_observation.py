"""Observation models against scipy's distributions, sums over all counts, and numerical derivatives."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from lightning_alrnn.nn import (
    GeneralizedPoissonObservation,
    NegativeBinomialObservation,
    Observation,
    PoissonObservation,
)

N, M = 4, 3
MODELS = (PoissonObservation, NegativeBinomialObservation, GeneralizedPoissonObservation)


def made(kind: type[Observation], dtype: torch.dtype = torch.float64) -> Observation:
    torch.manual_seed(0)
    model = kind(M, N).to(dtype)
    with torch.no_grad():
        model.readout.weight.normal_()
        model.readout.bias.normal_()
        if isinstance(model, NegativeBinomialObservation):
            model.log_r.copy_(torch.tensor([-1.0, 0.5, 2.0, 9.0]))
        if isinstance(model, GeneralizedPoissonObservation):
            model.logit.copy_(torch.tensor([-9.0, -1.0, 0.0, 0.8]))  # λ from 0.0001 to 0.66
    return model


def states(dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(2, 5, M, dtype=dtype, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("kind", MODELS)
def test_mean_and_variance_are_those_of_the_probabilities(kind: type[Observation]) -> None:
    model, z = made(kind), states()
    counts = torch.arange(3000, dtype=torch.float64)[:, None, None, None].expand(-1, 2, 5, N)
    with torch.no_grad():
        p = model.log_prob(counts, z).exp()
        mean = (p * counts).sum(0)
        torch.testing.assert_close(p.sum(0), torch.ones(2, 5, N, dtype=torch.float64), rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(mean, model.mean(z), rtol=1e-8, atol=1e-8)
        torch.testing.assert_close((p * counts.square()).sum(0) - mean.square(), model.variance(z), rtol=1e-7, atol=0)
        expected = np.logaddexp(0, (z @ model.readout.weight.T + model.readout.bias).numpy()) + 1e-6
    np.testing.assert_allclose(model.mean(z).detach().numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("kind", MODELS)
def test_probabilities_are_those_of_scipy_or_of_the_formula(kind: type[Observation]) -> None:
    model, z = made(kind), states()
    counts = torch.arange(10.0, dtype=torch.float64)[:, None, None, None].expand(-1, 2, 5, N)
    with torch.no_grad():
        mean = model.mean(z)
        if isinstance(model, NegativeBinomialObservation):
            r = model.log_r.exp()
            expected = stats.nbinom.logpmf(counts, r, r / (r + mean))
        elif isinstance(model, GeneralizedPoissonObservation):
            theta, rate = mean * (1 - model.spread()), mean + model.spread() * (counts - mean)
            expected = (theta * rate ** (counts - 1) * (-rate).exp() / torch.lgamma(counts + 1).exp()).log()
        else:
            expected = stats.poisson.logpmf(counts, mean)
        tolerance = 1e-8 if isinstance(model, NegativeBinomialObservation) else 1e-10
        np.testing.assert_allclose(model.log_prob(counts, z), expected, rtol=tolerance)


def test_limits_of_the_dispersion_are_poisson() -> None:
    z = states()
    counts = torch.poisson(torch.full((2, 5, N), 2.0, dtype=torch.float64))
    poisson = made(PoissonObservation)
    expected = poisson.log_prob(counts, z), poisson.variance(z)
    for kind, name, value in (
        (NegativeBinomialObservation, "log_r", 16.0),
        (GeneralizedPoissonObservation, "logit", -40.0),
    ):
        model = made(kind)
        torch.nn.init.constant_(getattr(model, name), value)
        torch.testing.assert_close((model.log_prob(counts, z), model.variance(z)), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", MODELS)
def test_gradients(kind: type[Observation]) -> None:
    model, z = made(kind), states().requires_grad_()
    counts = torch.poisson(model.mean(z).detach())
    names = [name for name, _ in model.named_parameters()]

    def log_prob(z: Tensor, *values: Tensor) -> Tensor:
        arguments = (counts, z)
        return torch.func.functional_call(model, dict(zip(names, values, strict=True)), arguments)  # type: ignore[no-any-return]

    model.forward = model.log_prob  # type: ignore[method-assign,assignment]
    values = [parameter.detach().clone().requires_grad_() for parameter in model.parameters()]
    assert torch.autograd.gradcheck(log_prob, (z, *values))


@pytest.mark.parametrize("kind", MODELS)
def test_extreme_states_give_finite_values_and_gradients(kind: type[Observation]) -> None:
    model = made(kind, torch.float32)
    z = (states(torch.float32) * torch.tensor([1e-3, 30.0, 300.0])).requires_grad_()
    for x in (0.0, 1.0, 50.0):
        value = model.log_prob(torch.full((2, 5, N), x), z).sum()
        assert bool(torch.isfinite(value))
        z.grad = None
        value.backward()
        assert bool(torch.isfinite(z.grad).all())
    if isinstance(model, GeneralizedPoissonObservation):
        with torch.no_grad():
            model.logit.fill_(100.0)
        assert float(model.spread().detach().max()) == pytest.approx(0.95)
        assert bool(torch.isfinite(model.log_prob(torch.ones(2, 5, N), z)).all())


@pytest.mark.parametrize("kind", MODELS)
def test_samples_follow_the_probabilities(kind: type[Observation]) -> None:
    model = made(kind, torch.float32)
    z = states(torch.float32)[0, :1].expand(40_000, M)
    drawn = model.sample(z, torch.Generator().manual_seed(5))
    assert drawn.shape == (40_000, N)
    assert torch.equal(drawn, drawn.round())
    assert torch.equal(drawn, model.sample(z, torch.Generator().manual_seed(5)))
    assert not torch.equal(drawn, model.sample(z, torch.Generator().manual_seed(6)))
    with torch.no_grad():
        for x in range(6):
            p = model.log_prob(torch.full((1, N), float(x)), z[:1]).exp()[0]
            share = (drawn == x).float().mean(0)
            error = (p * (1 - p) / len(z)).sqrt()
            assert bool(((share - p).abs() <= 4.5 * error + 1e-6).all()), (x, share, p)


@pytest.mark.parametrize(("sizes", "name"), [((3, 0), r"num_units \(N\)"), ((0, 3), r"hidden_size \(M\)")])
def test_wrong_sizes(sizes: tuple[int, int], name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        PoissonObservation(*sizes)
