"""What follows from the parameters as one value. Its step is tested in test_alrnn.py."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lightning_alrnn.nn import Recurrence, run_recurrence


def draw(M: int, P: int, K: int | None = 2, seed: int = 0) -> Recurrence:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    return Recurrence(0.3 * normal(M), 0.4 * normal(M, M), None if K is None else normal(M, K), normal(M), P)


@pytest.mark.parametrize("P", [0, 2, 5])
def test_slopes_matrices_and_jacobians(P: int) -> None:
    recurrence = draw(5, P)
    z, v = torch.randn(7, 5).double(), torch.randn(7, 5).double()
    assert recurrence.linear_units == 5 - P
    exact = torch.stack([torch.autograd.functional.jacobian(recurrence.step, row) for row in z])
    torch.testing.assert_close(recurrence.jacobian(z), exact)
    code = z[:, 5 - P :] > 0
    assert recurrence.regime(z).equal(code)
    torch.testing.assert_close(recurrence.regime_matrix(code), exact)
    torch.testing.assert_close(recurrence.regime_matrix(code.double().mean(dim=0)), exact.mean(dim=0))
    slopes = recurrence.slopes(z)
    assert slopes[:, : 5 - P].eq(1).all()
    assert slopes[:, 5 - P :].bool().equal(code)
    assert recurrence.slopes(torch.zeros(5)).sum() == 5 - P  # on a boundary a unit is off
    torch.testing.assert_close(recurrence.advance(z, recurrence.h, slopes), recurrence.step(z))
    torch.testing.assert_close(recurrence.jvp(v, slopes), (exact @ v.unsqueeze(-1)).squeeze(-1))
    torch.testing.assert_close(recurrence.vjp(v, slopes), (exact.mT @ v.unsqueeze(-1)).squeeze(-1))
    clamped = recurrence.clamped(code[0])
    assert clamped.P == 0
    torch.testing.assert_close(clamped.step(z), recurrence.advance(z, recurrence.h, slopes[:1]))
    with_tensor = recurrence._replace(P=torch.tensor(P))
    torch.testing.assert_close(with_tensor.step(z), recurrence.step(z))
    with pytest.raises(ValueError, match=rf"code must have P={P} entries .* got shape \(4, 6\)"):
        recurrence.regime_matrix(torch.zeros(4, 6))


@pytest.mark.parametrize("K", [None, 2])
def test_changed_networks_move_as_they_should(K: int | None) -> None:
    recurrence = draw(5, 3, K)
    inputs, start = torch.randn(2, 7, K or 5, dtype=torch.float64), torch.randn(2, 5, dtype=torch.float64)

    def states_of(network: Recurrence, start: Tensor) -> Tensor:
        return run_recurrence(network, inputs, start, backend="eager").states

    plain = states_of(recurrence, start)
    scale = torch.tensor([0.5, 2.0, 1.0, 4.0, 0.25], dtype=torch.float64)
    torch.testing.assert_close(states_of(recurrence.scaled(scale), start / scale) * scale, plain)
    order = [1, 0, 3, 4, 2]
    torch.testing.assert_close(states_of(recurrence.permuted(order), start[:, order]), plain[..., order])

    # with the nonlinearity taken from units 0 and 2 of the nonlinear ones
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
    torch.testing.assert_close(states_of(linearised, start[:, order]), torch.stack(expected, dim=1)[..., order])

    start[:, 3] = 0.0
    states, others = states_of(recurrence.silenced([1]), start), [0, 1, 2, 4]
    assert not states[..., 3].any()
    smaller = recurrence.permuted(others)._replace(P=2)
    torch.testing.assert_close(states[..., others], states_of(smaller, start[:, others]))

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


@pytest.mark.parametrize("P", [0, 2, 5])
def test_absolute_values_bound_the_sums(P: int) -> None:
    recurrence, z, s = draw(5, P), torch.randn(7, 5).double(), torch.randn(7, 2).double()
    sizes = recurrence.absolute()
    bound = sizes.advance(z.abs(), sizes.drive(s.abs()), recurrence.slopes(z))
    assert (recurrence.step(z, s).abs() <= bound).all()
    torch.testing.assert_close(sizes.step(z.abs(), s.abs()), sizes.advance(z.abs(), sizes.drive(s.abs())))
    assert not any((field < 0).any() for field in sizes[:4])  # type: ignore[union-attr]
