"""The parameters as one value, against the equation written out unit by unit."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lightning_alrnn.nn import ALRNN, Recurrence, run_recurrence


def draw(M: int, P: int, K: int | None = 2, seed: int = 0) -> Recurrence:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    return Recurrence(0.3 * normal(M), 0.4 * normal(M, M), None if K is None else normal(M, K), normal(M), P)


def step_by_units(recurrence: Recurrence, z: list[float], s: list[float] | None) -> list[float]:
    A, W, C, h = (None if field is None else field.tolist() for field in recurrence[:4])
    M, P = len(z), int(recurrence.P)
    phi = [value if i < M - P else max(value, 0.0) for i, value in enumerate(z)]
    following = []
    for i in range(M):
        total = A[i] * z[i] + h[i] + sum(W[i][j] * phi[j] for j in range(M))
        if s is not None:
            total += s[i] if C is None else sum(C[i][k] * s[k] for k in range(len(s)))
        following.append(total)
    return following


@given(M=st.integers(1, 6), data=st.data(), direct=st.booleans(), driven=st.booleans(), as_tensor=st.booleans())
def test_step_is_the_equation(M: int, data: st.DataObject, direct: bool, driven: bool, as_tensor: bool) -> None:
    P = data.draw(st.integers(0, M))
    recurrence = draw(M, P, None if direct else 2, seed=M * 10 + P)
    z = torch.randn(3, M, dtype=torch.float64)
    s = torch.randn(3, M if direct else 2, dtype=torch.float64) if driven else None
    driving = [None] * 3 if s is None else s.tolist()
    expected = [step_by_units(recurrence, *pair) for pair in zip(z.tolist(), driving, strict=True)]
    if as_tensor:
        recurrence = recurrence._replace(P=torch.tensor(P))
    torch.testing.assert_close(recurrence.step(z, s), torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("P", [0, 2, 5])
def test_slopes_matrices_and_jacobians(P: int) -> None:
    recurrence = draw(5, P)
    z = torch.randn(4, 5, dtype=torch.float64)
    exact = torch.stack([torch.autograd.functional.jacobian(recurrence.step, row) for row in z])
    torch.testing.assert_close(recurrence.jacobian(z), exact)
    code = z[:, 5 - P :] > 0
    torch.testing.assert_close(recurrence.regime_matrix(code), exact)
    assert recurrence.slopes(z)[:, : 5 - P].eq(1).all()
    assert recurrence.slopes(z)[:, 5 - P :].bool().equal(code)
    assert recurrence.slopes(torch.zeros(5)).sum() == 5 - P  # on a boundary a unit is off
    torch.testing.assert_close(recurrence.advance(z, recurrence.h, recurrence.slopes(z)), recurrence.step(z))
    with pytest.raises(ValueError, match=rf"code must have P={P} entries .* got shape \(4, 6\)"):
        recurrence.regime_matrix(torch.zeros(4, 6))


@pytest.mark.parametrize("K", [None, 2])
def test_changed_networks_move_as_they_should(K: int | None) -> None:
    recurrence = draw(5, 3, K)
    inputs, start = torch.randn(2, 7, K or 5, dtype=torch.float64), torch.randn(2, 5, dtype=torch.float64)
    plain = run_recurrence(recurrence, inputs, start, backend="eager").states

    scale = torch.tensor([0.5, 2.0, 1.0, 4.0, 0.25], dtype=torch.float64)
    scaled = run_recurrence(recurrence.scaled(scale), inputs, start / scale, backend="eager").states
    torch.testing.assert_close(scaled * scale, plain)

    order = [1, 0, 3, 4, 2]
    permuted = run_recurrence(recurrence.permuted(order), inputs, start[:, order], backend="eager").states
    torch.testing.assert_close(permuted, plain[..., order])

    # unit by unit, with the nonlinearity taken from units 0 and 2 of the nonlinear ones
    expected, z = [], start
    for t in range(7):
        slopes = recurrence.slopes(z)
        slopes[:, [2, 4]] = 1.0
        z = recurrence.advance(z, recurrence.drive(inputs[:, t]), slopes)
        expected.append(z)
    order = recurrence.linearised_order([2, 0]).tolist()
    assert order == [0, 1, 4, 2, 3]
    linearised = recurrence.linearised([2, 0])
    assert linearised.P == 1
    states = run_recurrence(linearised, inputs, start[:, order], backend="eager").states
    torch.testing.assert_close(states, torch.stack(expected, dim=1)[..., order])

    silenced = recurrence.silenced([1])
    start = start.clone()
    start[:, 3] = 0.0
    states = run_recurrence(silenced, inputs, start, backend="eager").states
    assert not states[..., 3].any()
    smaller = recurrence.permuted([0, 1, 2, 4])._replace(P=2)
    states_without = run_recurrence(smaller, inputs, start[:, [0, 1, 2, 4]], backend="eager").states
    torch.testing.assert_close(states[..., [0, 1, 2, 4]], states_without)

    for units in ([3], [-1]):
        for change in (recurrence.linearised, recurrence.silenced):
            with pytest.raises(ValueError, match=rf"units must be nonlinear units, 0 … P−1 with P=3, got {units[0]}"):
                change(units)


def test_dtype_and_device() -> None:
    single = Recurrence(*(field.float() for field in draw(3, 1)[:4]), torch.tensor(1))  # type: ignore[union-attr]
    double = single.double()
    assert {field.dtype for field in double[:4]} == {torch.float64}  # type: ignore[union-attr]
    assert double.P.dtype == torch.int64  # type: ignore[union-attr]
    meta = double.to(torch.device("meta"))
    assert {field.device.type for field in meta} == {"meta"}  # type: ignore[union-attr]
    assert draw(3, 1, None).double().C is None


@pytest.mark.parametrize("self_connections", ["nonlinear", "all"])
@pytest.mark.parametrize("P", [0, 2, 4])
def test_of_a_layer(self_connections: str, P: int) -> None:
    rnn = ALRNN(3, 4, P, self_connections=self_connections, init="near_identity")  # type: ignore[arg-type]
    A, W, C, h, units = rnn.recurrence()
    assert A[4 - rnn.A.numel() :].equal(rnn.A)
    assert not A[: 4 - rnn.A.numel()].any()
    assert W is rnn.W
    assert C is rnn.C
    assert h is rnn.h
    assert units == P
    assert "P" not in rnn.state_dict()


@pytest.mark.parametrize("P", [0, 2, 5])
def test_products_with_jacobians_and_held_regimes(P: int) -> None:
    recurrence, z, v = draw(5, P), torch.randn(7, 5).double(), torch.randn(7, 5).double()
    assert recurrence.linear_units == 5 - P
    code, jacobian, slopes = recurrence.regime(z), recurrence.jacobian(z), recurrence.slopes(z)
    torch.testing.assert_close(recurrence.regime_slopes(code), slopes)
    torch.testing.assert_close(recurrence.jvp(v, slopes), (jacobian @ v.unsqueeze(-1)).squeeze(-1))
    torch.testing.assert_close(recurrence.vjp(v, slopes), (jacobian.mT @ v.unsqueeze(-1)).squeeze(-1))

    share = code.double().mean(dim=0)
    torch.testing.assert_close(recurrence.regime_matrix(share), jacobian.mean(dim=0))

    clamped = recurrence.clamped(code[0])
    assert clamped.P == 0
    torch.testing.assert_close(clamped.step(z), recurrence.advance(z, recurrence.h, slopes[:1]))

    # |A z + W D z + C s + h| is at most the sum of the sizes of its terms, and as much where all signs agree
    s = torch.randn(7, 2).double()
    sizes = recurrence.absolute()
    bound = sizes.advance(z.abs(), sizes.drive(s.abs()), slopes)
    assert (recurrence.step(z, s).abs() <= bound).all()
    torch.testing.assert_close(sizes.step(z.abs(), s.abs()), sizes.advance(z.abs(), sizes.drive(s.abs())))
    assert not any((field < 0).any() for field in sizes[:4])  # type: ignore[union-attr]
