"""Networks in one call against networks one by one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from lightning_alrnn.nn import ALRNN, available_backends, manifold_attractor_penalty, stack_networks

UNITS = (0, 1, 2, 5, 10, 25, 50)
BATCH, STEPS = 6, 20


class Network(nn.Module):
    """A layer, what reads it, and a loss of both."""

    def __init__(self, rnn: ALRNN) -> None:
        super().__init__()
        self.rnn, self.readout = rnn, nn.Linear(rnn.hidden_size, 2)

    def forward(self, inputs: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor]:
        states, last = self.rnn(inputs, lengths=lengths)
        penalty = manifold_attractor_penalty(self.rnn, self.rnn.hidden_size // 2)
        return states, self.readout(last).square().mean() + states.square().mean() + 0.1 * penalty


def make(backend: str, dtype: torch.dtype, **options: str) -> list[Network]:
    torch.manual_seed(0)
    return [
        Network(ALRNN(3, 50, P, backend=backend, init="near_identity", **options)).to(dtype)  # type: ignore[arg-type]
        for P in UNITS
    ]


def run(networks: list[Network], inputs: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """States, losses and gradients of all networks in one call."""
    parameters, buffers = stack_networks(networks)

    def one(state: tuple[dict[str, Tensor], dict[str, Tensor]], *arguments: Tensor) -> tuple[Tensor, Tensor]:
        return functional_call(networks[0], state, arguments)  # type: ignore[no-any-return]

    states, losses = torch.vmap(one, in_dims=(0, 0, None if lengths is None else 0))(
        (parameters, buffers), inputs, lengths
    )
    gradients = torch.autograd.grad(losses.sum(), list(parameters.values()))
    return states.detach(), losses.detach(), dict(zip(parameters, gradients, strict=True))


CASES = [("eager", torch.float64, 1e-12), ("fused", torch.float64, 1e-12), ("native", torch.float32, 1e-5)]


@pytest.mark.parametrize(("backend", "dtype", "limit"), CASES)
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("options", [{}, {"self_connections": "all", "initial_state": "learned"}])
def test_one_call_equals_single_calls(
    backend: str, dtype: torch.dtype, limit: float, padded: bool, options: dict[str, str]
) -> None:
    if backend not in available_backends():
        pytest.skip("the kernel is not compiled here")
    networks = make(backend, dtype, **options)
    inputs = torch.randn(len(UNITS), BATCH, STEPS, 3).to(dtype)
    lengths = torch.randint(1, STEPS + 1, (len(UNITS), BATCH)) if padded else None
    states, losses, gradients = run(networks, inputs, lengths)
    for k, network in enumerate(networks):
        expected, loss = network(inputs[k], None if lengths is None else lengths[k])
        loss.backward()
        torch.testing.assert_close(losses[k], loss.detach(), rtol=limit, atol=0)
        assert (states[k] - expected).abs().max() <= limit * expected.abs().max()
        for name, parameter in network.named_parameters():
            gradient = gradients[name][k]
            if name == "rnn.A":
                linear = 50 - parameter.numel()
                assert not gradient[:linear].any()
                gradient = gradient[linear:]
            if parameter.numel():
                error = (gradient - parameter.grad).abs().max()
                assert error <= limit * parameter.grad.abs().max() + 1e-30, name


@pytest.mark.parametrize("backend", available_backends()[1:-1])
def test_networks_do_not_touch_each_other(backend: str) -> None:
    networks = make(backend, torch.float32)
    inputs = torch.randn(len(UNITS), BATCH, STEPS, 3)
    plain = run(networks, inputs, None)
    inputs[3, 2, 5] = torch.nan
    spoilt = run(networks, inputs, None)
    others = [k for k in range(len(UNITS)) if k != 3]
    for before, after in zip((*plain[:2], *plain[2].values()), (*spoilt[:2], *spoilt[2].values()), strict=True):
        assert after[3].isnan().any()
        assert before[others].equal(after[others])


@pytest.mark.parametrize(
    ("networks", "message"),
    [
        ([], "at least one module, got none"),
        ([ALRNN(1, 3, 1), ALRNN(1, 4, 1)], r"W has the shapes \[\(3, 3\), \(4, 4\)\]"),
        ([ALRNN(1, 3, 1), ALRNN(None, 3, 1)], "their names differ"),
        *(
            ([ALRNN(1, 3, 1), ALRNN(1, 3, 1, **{name: value})], f"the same options, but {name} of ALRNN is ")  # type: ignore[arg-type]
            for name, value in {"initial_state": "learned", "self_connections": "all", "backend": "eager"}.items()
        ),
    ],
)
def test_networks_that_cannot_be_stacked(networks: list[ALRNN], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        stack_networks(networks)
