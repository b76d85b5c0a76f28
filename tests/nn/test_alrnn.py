"""The layer against a loop written by hand, in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lightning_alrnn.nn import ALRNN

INPUTS = torch.zeros(2, 5, 3)
SIZES = [(6, 0), (6, 1), (6, 3), (6, 6), (1, 0), (1, 1)]


def make(hidden: int, nonlinear: int, inputs: int | None = 3, **options: object) -> ALRNN:
    """A layer in float64 whose states take both signs and neither die nor explode."""
    torch.manual_seed(hidden * 10 + nonlinear)
    rnn = ALRNN(inputs, hidden, nonlinear, **options).double()  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in rnn.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.5 / max(1, parameter.shape[-1] ** 0.5))
    return rnn


def by_hand(rnn: ALRNN, inputs: Tensor, state: Tensor, lengths: list[int]) -> tuple[Tensor, Tensor]:
    """z' = A z + W φ*(z) + C s + h, step by step."""
    A = torch.cat((torch.zeros(rnn.hidden_size - len(rnn.A)), rnn.A))
    C = torch.eye(rnn.hidden_size).double() if rnn.C is None else rnn.C
    states, last = torch.zeros(*inputs.shape[:2], rnn.hidden_size).double(), state.clone()
    for b, length in enumerate(lengths):
        for t in range(length):
            z = last[b]
            phi = torch.stack([value.relu() if unit >= rnn.linear_units else value for unit, value in enumerate(z)])
            states[b, t] = last[b] = A * z + rnn.W @ phi + C @ inputs[b, t] + rnn.h
    return states, last


@pytest.mark.parametrize("backend", ["eager", "fused", "auto"])
@pytest.mark.parametrize("self_connections", ["nonlinear", "all"])
@pytest.mark.parametrize(("hidden", "nonlinear"), SIZES)
@pytest.mark.parametrize(("padded", "width"), [(False, 3), (True, 3), (True, None)])
def test_forward_equals_hand_written_loop(
    hidden: int, nonlinear: int, self_connections: str, backend: str, padded: bool, width: int | None
) -> None:
    rnn = make(hidden, nonlinear, width, self_connections=self_connections, backend=backend)
    inputs, state = torch.randn(4, 9, width or hidden).double(), torch.randn(4, hidden).double()
    lengths = [9, 1, 4, 8] if padded else [9] * 4
    with torch.no_grad():
        got = rnn(inputs, state, torch.tensor(lengths) if padded else None)
        torch.testing.assert_close(tuple(got), by_hand(rnn, inputs, state, lengths), rtol=0, atol=1e-12)


@pytest.mark.parametrize("nonlinear", [0, 1, 6])
@pytest.mark.parametrize("self_connections", ["nonlinear", "all"])
def test_chunks_equal_the_whole_bit_for_bit(nonlinear: int, self_connections: str) -> None:
    rnn = make(6, nonlinear, backend="eager", self_connections=self_connections)
    inputs = torch.randn(3, 11, 3).double()
    states, last = rnn(inputs)
    chunks, state = [], None
    for chunk in inputs.split([4, 1, 6], dim=1):
        chunk_states, state = rnn(chunk, state)
        chunks.append(chunk_states)
    assert torch.equal(torch.cat(chunks, dim=1), states)
    assert torch.equal(state, last)


@pytest.mark.parametrize("self_connections", ["nonlinear", "all"])
@pytest.mark.parametrize(("hidden", "nonlinear"), SIZES)
def test_step_regime_and_jacobian(hidden: int, nonlinear: int, self_connections: str) -> None:
    rnn = make(hidden, nonlinear, self_connections=self_connections)
    z, s = torch.randn(7, hidden).double(), torch.randn(7, 3).double()
    states, _ = rnn(s.unsqueeze(1), z)
    torch.testing.assert_close(rnn.step(z, s), states[:, 0], rtol=0, atol=1e-12)
    torch.testing.assert_close(rnn.step(z), rnn.step(z, torch.zeros_like(s)), rtol=0, atol=1e-12)

    code = rnn.regime(z)
    assert code.shape == (7, nonlinear)
    assert code.dtype == torch.bool
    assert code.tolist() == [[value > 0 for value in row[hidden - nonlinear :]] for row in z.tolist()]

    numeric = torch.stack([torch.autograd.functional.jacobian(lambda x: rnn.step(x), row) for row in z])
    torch.testing.assert_close(rnn.jacobian(z), numeric, rtol=0, atol=1e-12)
    for numbers in (code, code.long()):
        torch.testing.assert_close(rnn.regime_matrix(numbers), rnn.jacobian(z), rtol=0, atol=0)


def test_gaussian_init() -> None:
    torch.manual_seed(0)
    rnn = ALRNN(200, 200, 100, init="gaussian")
    for values, std in ((rnn.A, 0.01), (rnn.W, 0.01), (rnn.h, 0.01), (rnn.C, 0.1)):
        assert float(values.detach().std()) == pytest.approx(std, rel=0.2)
        assert abs(float(values.detach().mean())) < std


@pytest.mark.parametrize("self_connections", ["nonlinear", "all"])
def test_positive_definite_init(self_connections: str) -> None:
    torch.manual_seed(0)
    rnn = ALRNN(2, 50, 10, init="positive_definite", self_connections=self_connections)  # type: ignore[arg-type]
    diagonal = (rnn.diagonal() + rnn.W.diagonal()).detach()
    assert 0.1 < float(diagonal.min()) <= float(diagonal.max()) < 1.05
    off_diagonal = rnn.W.detach() - torch.diag(rnn.W.detach().diagonal())
    assert float(off_diagonal.std()) == pytest.approx(0.01, rel=0.1)
    assert torch.equal(rnn.h, torch.zeros(50))


@pytest.mark.parametrize("self_connections", ["nonlinear", "all"])
@pytest.mark.parametrize("nonlinear", [0, 10, 50])
@pytest.mark.parametrize("coupling", [None, 0.0, 0.98, 1.0])
def test_near_identity_init(nonlinear: int, self_connections: str, coupling: float | None) -> None:
    torch.manual_seed(0)
    options = {"self_connections": self_connections} | ({} if coupling is None else {"initial_coupling": coupling})
    rnn = ALRNN(2, 50, nonlinear, init="near_identity", **options)  # type: ignore[arg-type]
    eigenvalues = torch.linalg.eigvals(rnn.regime_matrix(torch.ones(nonlinear)).detach())
    coupling = 0.9 if coupling is None else coupling
    radius = 1 - coupling  # of the disc they fill by the circular law; with 1 all are 1
    assert 0.8 * radius <= float((eigenvalues - coupling).abs().max()) < 1.6 * radius + 1e-6


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_processes_together_draw_the_initial_states_of_one(processes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    uniform = ALRNN(3, 4, 1, initial_state="uniform")
    torch.manual_seed(1)
    expected = [uniform.start(6), uniform.start(6)]
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: processes)
    for rank in range(processes):
        monkeypatch.setattr(torch.distributed, "get_rank", lambda: rank)  # noqa: B023
        torch.manual_seed(1)
        for one in expected:  # samplers deal sequences out in turn
            assert uniform.start(6 // processes).equal(one[rank::processes])


def test_initial_states() -> None:
    inputs = torch.zeros(64, 1, 3)
    learned = ALRNN(3, 4, 1, initial_state="learned")
    with torch.no_grad():
        learned.z0.copy_(torch.arange(4.0))
    torch.testing.assert_close(learned(inputs).states[5, 0], learned.step(torch.arange(4.0)))
    learned(inputs).states.sum().backward()
    assert float(learned.z0.grad.abs().sum()) > 0

    uniform = ALRNN(3, 4, 1, initial_state="uniform", initial_radius=0.5)
    drawn = uniform.start(64)
    assert float(drawn.abs().max()) <= 0.5
    assert float(drawn.std()) == pytest.approx(0.5 / 3**0.5, rel=0.2)
    assert not torch.equal(uniform(inputs).states, uniform(inputs).states)
    assert float(ALRNN(3, 4, 1, initial_state="uniform").start(64).abs().max()) <= 1 / 8  # 1/√batch
    uniform.eval()
    assert torch.equal(uniform(inputs).states, uniform(inputs, torch.zeros(64, 4)).states)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"nonlinear_units": 9}, r"nonlinear_units \(P\) must lie between 0 and hidden_size \(M=8\), got 9"),
        ({"nonlinear_units": -1}, r"nonlinear_units \(P\) must lie between 0 and hidden_size \(M=8\), got -1"),
        ({"hidden_size": 0}, r"hidden_size \(M\) must be at least 1, got 0"),
        ({"input_size": 0}, r"input_size \(K\) must be at least 1"),
        ({"init": "xavier"}, "init must be one of 'gaussian', 'positive_definite', 'near_identity', got 'xavier'"),
        ({"self_connections": "none"}, "self_connections must be one of"),
        ({"initial_state": "ones"}, "initial_state must be one of"),
        ({"initial_radius": 0.0}, "initial_radius must be positive"),
        ({"initial_coupling": 1.1}, "initial_coupling must lie between 0 and 1, got 1.1"),
        ({"backend": "cuda"}, "backend must be one of 'auto', 'eager', 'fused'"),
    ],
)
def test_wrong_arguments(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ALRNN(**{"input_size": 3, "hidden_size": 8, "nonlinear_units": 2, **arguments})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((torch.randn(2, 5, 4),), ValueError, r"inputs must .* \(batch, time, input_size=3\).*got \(2, 5, 4\)"),
        ((torch.randn(2, 0, 3),), ValueError, r"inputs must have shape .* at least one step, got \(2, 0, 3\)"),
        ((INPUTS.double(),), TypeError, r"float32, got torch\.float64"),
        ((INPUTS, torch.zeros(1, 8)), ValueError, r"state must .* hidden_size\) = \(2, 8\), got \(1, 8\)"),
        ((INPUTS, None, torch.tensor([5, 6])), ValueError, r"lengths\[1\] is 6"),
        ((INPUTS, None, torch.tensor([0, 5])), ValueError, r"lengths\[0\] is 0"),
        ((INPUTS, None, torch.tensor([5.0, 5.0])), ValueError, r"int64 of shape \(batch,\) = \(2,\)"),
    ],
)
def test_wrong_inputs(arguments: tuple[Tensor, ...], error: type[Exception], message: str) -> None:
    rnn = ALRNN(3, 8, 2)
    with pytest.raises(error, match=message):
        rnn(*arguments)
    with pytest.raises(ValueError, match="code must have P=2 entries"):
        rnn.regime_matrix(torch.ones(3))
