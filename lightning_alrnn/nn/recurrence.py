"""The parameters of the AL-RNN recurrence as one value, and the functions that follow from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

_Values = TypeVar("_Values", Tensor, NDArray[np.float64])


class Recurrence(NamedTuple):
    r"""Parameters of one AL-RNN, in the order of the equation.

    .. math:: z' = A z + W φ^*(z) + C s + h

    φ* is the identity on the first M−P units and a ReLU on the last P. The methods are for one network.

    Attributes:
        A: Diagonal of A over all units, shape ``(M,)``; 0 for units without a self-connection.
        W: Coupling matrix, shape ``(M, M)``.
        C: Input weights, shape ``(M, K)``; ``None`` if inputs of width M are added directly.
        h: Bias, shape ``(M,)``.
        P: Number of rectified units, an int or an int64 scalar tensor.

    Example:
        >>> recurrence = Recurrence(torch.zeros(2), torch.eye(2), None, torch.zeros(2), P=1)
        >>> recurrence.step(torch.tensor([-1.0, -1.0])).tolist()
        [-1.0, 0.0]
    """

    A: Tensor
    W: Tensor
    C: Tensor | None
    h: Tensor
    P: int | Tensor

    @property
    def nonlinear(self) -> Tensor:
        """Mask of the rectified units, bool of shape ``(M,)``."""
        size = self.h.shape[-1]
        return torch.arange(size, device=self.h.device) >= size - self.P

    @property
    def linear_units(self) -> int:
        """Number M−P of units that are never rectified."""
        return self.h.shape[-1] - int(self.P)

    @property
    def input_weights(self) -> Tensor:
        """Input weights C, shape ``(M, K)``; the identity if inputs are added directly."""
        if self.C is not None:
            return self.C
        return torch.eye(self.h.shape[-1], dtype=self.h.dtype, device=self.h.device)

    def drive(self, s: Tensor) -> Tensor:
        """Return the drive C s + h of the states.

        Args:
            s: Inputs, shape ``(…, K)``.

        Returns:
            Tensor of shape ``(…, M)``.
        """
        return s + self.h if self.C is None else functional.linear(s, self.C, self.h)

    def step(self, z: Tensor, s: Tensor | None = None) -> Tensor:
        """Compute one step of the recurrence.

        Args:
            z: States, shape ``(…, M)``.
            s: Inputs, shape ``(…, K)``; ``None`` for no input.

        Returns:
            Next states, shape ``(…, M)``.
        """
        return self.advance(z, self.h if s is None else self.drive(s))

    def advance(self, z: Tensor, drive: Tensor, slopes: Tensor | None = None) -> Tensor:
        """Compute one step for a known drive, A z + W φ*(z) + drive.

        Args:
            z: States, shape ``(…, M)``.
            drive: Drive C s + h, broadcastable to the shape of ``z``.
            slopes: Diagonal of D, shape ``(…, M)``. If given, the step uses W D z instead of W φ*(z).

        Returns:
            Next states, shape ``(…, M)``.
        """
        if slopes is None:
            return self.stepper()(z, drive)
        return self.A * z + functional.linear(slopes * z, self.W) + drive

    def stepper(self) -> Callable[[Tensor, Tensor], Tensor]:
        """Return :meth:`advance` as a function of states and drive that is faster if it is called many times."""
        A, W, nonlinear = self.A, self.W, self.nonlinear
        return lambda z, drive: A * z + functional.linear(torch.where(nonlinear, z.relu(), z), W) + drive

    def jvp(self, vectors: Tensor, slopes: Tensor) -> Tensor:
        """Multiply vectors by the Jacobian of one step, (A + W D) v.

        Args:
            vectors: Vectors v, shape ``(…, M)``.
            slopes: Diagonal of D, broadcastable to the shape of ``vectors``.

        Returns:
            Tensor of shape ``(…, M)``.
        """
        return jvp(self.A, self.W, vectors, slopes)

    def vjp(self, vectors: Tensor, slopes: Tensor) -> Tensor:
        """Multiply vectors by the transposed Jacobian of one step, (A + W D)ᵀ v.

        Args:
            vectors: Vectors v, shape ``(…, M)``.
            slopes: Diagonal of D, broadcastable to the shape of ``vectors``.

        Returns:
            Tensor of shape ``(…, M)``.
        """
        return self.A * vectors + slopes * (vectors @ self.W)

    def regime(self, z: Tensor) -> Tensor:
        """Return the linear regime of each state: which nonlinear units are on, z > 0.

        Args:
            z: States, shape ``(…, M)``.

        Returns:
            Tensor, bool of shape ``(…, P)``; entry i belongs to unit M−P+i.
        """
        return z[..., self.linear_units :] > 0

    def slopes(self, z: Tensor) -> Tensor:
        """Return the diagonal of D, the slope of φ* at each unit: 1 for linear units, 1 or 0 for the others.

        Args:
            z: States, shape ``(…, M)``. A unit on a switching boundary (z=0) counts as off.

        Returns:
            Tensor of shape ``(…, M)``.
        """
        return (~self.nonlinear | (z > 0)).to(self.W.dtype)

    def regime_slopes(self, code: Tensor) -> Tensor:
        """Return the diagonal of D in one linear regime, (1, …, 1, code).

        Args:
            code: Bits of the regime, bool or 0/1, shape ``(…, P)``; or the share of time that each unit is on.

        Returns:
            Tensor of shape ``(…, M)``.

        Raises:
            ValueError: If ``code`` does not have P entries.
        """
        if code.shape[-1:] != (int(self.P),):
            raise ValueError(
                f"code must have P={int(self.P)} entries in its last dimension, got shape {tuple(code.shape)}"
            )
        return functional.pad(code.to(self.W), (self.linear_units, 0), value=1.0)

    def regime_matrix(self, code: Tensor) -> Tensor:
        """Return the matrix A + W D of one linear regime, D = diag(1, …, 1, code).

        Args:
            code: Bits of the regime as in :meth:`regime_slopes`, shape ``(…, P)``.

        Returns:
            Tensor of shape ``(…, M, M)``.
        """
        return step_matrix(torch.diag(self.A), self.W, self.regime_slopes(code))

    def jacobian(self, z: Tensor) -> Tensor:
        """Return the Jacobian ∂z'/∂z of one step, which is the matrix of the regime of ``z``.

        Args:
            z: States, shape ``(…, M)``. A unit on a switching boundary (z=0) counts as off.

        Returns:
            Tensor of shape ``(…, M, M)``.
        """
        return step_matrix(torch.diag(self.A), self.W, self.slopes(z))

    def permuted(self, order: Sequence[int] | Tensor) -> Recurrence:
        """Return the network with its units in another order, or with only some of its units.

        P does not change, so the rectified units must stay last. Inputs that are added directly get a matrix C.

        Args:
            order: Indices of units, each at most once, shape ``(M,)`` or shorter. Unit ``order[i]`` becomes unit i.
        """
        index = torch.as_tensor(order, dtype=torch.int64, device=self.W.device)
        C = self.input_weights[index]
        return Recurrence(self.A[index], self.W[index][:, index].contiguous(), C, self.h[index], self.P)

    def linearised(self, units: Sequence[int]) -> Recurrence:
        """Return the network with some nonlinear units made linear, in the order of :meth:`linearised_order`.

        Args:
            units: Nonlinear units, 0 to P−1, where 0 is unit M−P.
        """
        return self.permuted(self.linearised_order(units))._replace(P=self.P - len(set(units)))

    def linearised_order(self, units: Sequence[int]) -> Tensor:
        """Return the order of the units after :meth:`linearised`: linear units, ``units``, other nonlinear units.

        Args:
            units: Nonlinear units, 0 to P−1, where 0 is unit M−P.

        Returns:
            Tensor, int64 of shape ``(M,)``. Entry i is the unit that becomes unit i.

        Raises:
            ValueError: If a unit is not one of 0 … P−1.
        """
        indices = self._indices(units)
        # sorting by keys that are written on the device avoids copying a list of indices to it
        key = torch.full(self.h.shape, len(indices) + 1, dtype=torch.int64, device=self.h.device)
        key[: self.linear_units] = 0
        for rank, index in enumerate(indices, start=1):
            key[index] = rank
        return key.argsort(stable=True)

    def silenced(self, units: Sequence[int]) -> Recurrence:
        """Return the network with some nonlinear units held at zero, where they must be in the initial state.

        Args:
            units: Nonlinear units, 0 to P−1, where 0 is unit M−P.
        """
        active = self.active(units)
        rows = active.unsqueeze(-1)
        return Recurrence(self.A * active, self.W * rows, self.input_weights * rows, self.h * active, self.P)

    def active(self, units: Sequence[int]) -> Tensor:
        """Return a mask of the units that are not silenced.

        Args:
            units: Silenced nonlinear units, 0 to P−1, where 0 is unit M−P.

        Returns:
            Mask with 0 for ``units`` and 1 for all other units, shape ``(M,)``.

        Raises:
            ValueError: If a unit is not one of 0 … P−1.
        """
        active = torch.ones_like(self.h)
        for index in self._indices(units):
            active[index] = 0.0
        return active

    def clamped(self, code: Tensor) -> Recurrence:
        """Return the linear network that stays in one regime whatever the signs of its units: W D for W, and P=0.

        Args:
            code: Bits of the regime, bool or 0/1, shape ``(P,)``.
        """
        return self._replace(W=self.W * self.regime_slopes(code), P=0)

    def absolute(self) -> Recurrence:
        """Return the absolute values of the parameters, which bound the terms of each sum."""
        return Recurrence(self.A.abs(), self.W.abs(), None if self.C is None else self.C.abs(), self.h.abs(), self.P)

    def scaled(self, scale: Tensor) -> Recurrence:
        """Return the network whose states are z / scale.

        Args:
            scale: Positive factors, shape ``(M,)``.
        """
        rows = scale.unsqueeze(-1)
        return Recurrence(self.A, self.W / rows * scale, self.input_weights / rows, self.h / scale, self.P)

    def to(self, target: torch.dtype | torch.device | str) -> Recurrence:
        """Convert the parameters to another dtype, which P keeps, or move them to another device.

        Args:
            target: Dtype or device.
        """
        A, W, C, h = (None if field is None else field.to(target) for field in self[:4])
        P = self.P if isinstance(self.P, int) or isinstance(target, torch.dtype) else self.P.to(target)
        return Recurrence(A, W, C, h, P)  # type: ignore[arg-type]

    def double(self) -> Recurrence:
        """Convert the parameters to float64."""
        return self.to(torch.float64)

    def _indices(self, units: Sequence[int]) -> list[int]:
        """Return the indices of nonlinear units among all units, each once."""
        count = int(self.P)
        wrong = [unit for unit in units if not 0 <= unit < count]
        if wrong:
            raise ValueError(f"units must be nonlinear units, 0 … P−1 with P={count}, got {wrong[0]}")
        return [self.h.shape[-1] - count + unit for unit in dict.fromkeys(units)]


def jvp(A: _Values, W: _Values, vectors: _Values, slopes: _Values) -> _Values:
    """Return (A + W D) v for tensors or arrays, shape ``(…, M)``; ``A`` and ``slopes`` are diagonals."""
    return A * vectors + (slopes * vectors) @ W.T


def step_matrix(A: _Values, W: _Values, slopes: _Values) -> _Values:
    """Return A + W D for tensors or arrays, shape ``(…, M, M)``; A is a matrix, ``slopes`` the diagonal of D."""
    return A + W * slopes[..., None, :]
