"""The AL-RNN recurrence as one value: its parameters, and everything that follows from them.

.. math:: z_t = A z_{t-1} + W φ^*(z_{t-1}) + C s_t + h

No other module writes this equation, except the backends of :mod:`lightning_alrnn.nn.scan`, which run it over time.
"""

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

    φ* is the identity on the first M−P units and a ReLU on the last P.

    :func:`~lightning_alrnn.nn.run_recurrence` also takes a stack of E networks, in which every field has a leading
    dimension E. The methods are for one network; ``torch.vmap`` applies them to many.

    Attributes:
        A: Diagonal of A over all units, shape ``(M,)``; zero where a unit has no self-connection.
        W: Coupling, shape ``(M, M)``.
        C: Input weights, shape ``(M, K)``; ``None`` where inputs of width M are added directly.
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
        """Which units are rectified, bool of shape ``(M,)``."""
        size = self.h.shape[-1]
        return torch.arange(size, device=self.h.device) >= size - self.P

    @property
    def linear_units(self) -> int:
        """M−P, the number of units that are never rectified."""
        return self.h.shape[-1] - int(self.P)

    @property
    def input_weights(self) -> Tensor:
        """C, shape ``(M, K)``; the identity where inputs are added directly."""
        if self.C is not None:
            return self.C
        return torch.eye(self.h.shape[-1], dtype=self.h.dtype, device=self.h.device)

    def drive(self, s: Tensor) -> Tensor:
        """What inputs add to the states, C s + h.

        Args:
            s: Inputs s, shape ``(…, K)``.

        Returns:
            Tensor of shape ``(…, M)``.
        """
        return s + self.h if self.C is None else functional.linear(s, self.C, self.h)

    def step(self, z: Tensor, s: Tensor | None = None) -> Tensor:
        """One step of the recurrence.

        Args:
            z: States z, shape ``(…, M)``.
            s: Inputs s, shape ``(…, K)``; ``None`` for no input.

        Returns:
            The next states, shape ``(…, M)``.
        """
        return self.advance(z, self.h if s is None else self.drive(s))

    def advance(self, z: Tensor, drive: Tensor, slopes: Tensor | None = None) -> Tensor:
        """One step under a drive that is known, A z + W φ*(z) + drive.

        Args:
            z: States z, shape ``(…, M)``.
            drive: C s + h, broadcastable to the shape of ``z``.
            slopes: Diagonal of D, shape ``(…, M)``, to take W D z in place of W φ*(z); ``None`` for the network's own
                nonlinearity.

        Returns:
            The next states, shape ``(…, M)``.
        """
        if slopes is None:
            return self.stepper()(z, drive)
        return self.A * z + functional.linear(slopes * z, self.W) + drive

    def stepper(self) -> Callable[[Tensor, Tensor], Tensor]:
        """A function that makes many steps, as :meth:`advance` makes one.

        Returns:
            Called with states and drive, it gives the next states.
        """
        A, W, nonlinear = self.A, self.W, self.nonlinear
        return lambda z, drive: A * z + functional.linear(torch.where(nonlinear, z.relu(), z), W) + drive

    def jvp(self, vectors: Tensor, slopes: Tensor) -> Tensor:
        """Vectors times the Jacobian of one step, (A + W D) v: how small changes of a state travel.

        Args:
            vectors: Tensor of shape ``(…, M)``.
            slopes: Diagonal of D, broadcastable to that shape.

        Returns:
            Tensor of shape ``(…, M)``.
        """
        return jvp(self.A, self.W, vectors, slopes)

    def vjp(self, vectors: Tensor, slopes: Tensor) -> Tensor:
        """Vectors times the transposed Jacobian of one step, (A + W D)ᵀ v: how gradients travel back.

        Args:
            vectors: Tensor of shape ``(…, M)``.
            slopes: Diagonal of D, broadcastable to that shape.

        Returns:
            Tensor of shape ``(…, M)``.
        """
        return self.A * vectors + slopes * (vectors @ self.W)

    def regime(self, z: Tensor) -> Tensor:
        """The linear regime of each state: which nonlinear units are on, z > 0.

        Args:
            z: States z, shape ``(…, M)``.

        Returns:
            bool, shape ``(…, P)``; entry i belongs to unit M−P+i.
        """
        return z[..., self.linear_units :] > 0

    def slopes(self, z: Tensor) -> Tensor:
        """The diagonal of D, the slope of φ* at each unit: 1 for linear units, 1 or 0 for the others.

        Args:
            z: States z, shape ``(…, M)``. On a switching boundary (z=0) a unit counts as off.

        Returns:
            Tensor of shape ``(…, M)``.
        """
        return (~self.nonlinear | (z > 0)).to(self.W.dtype)

    def regime_slopes(self, code: Tensor) -> Tensor:
        """The diagonal of D in one linear regime, (1, …, 1, code).

        Args:
            code: Bits of the regime, bool or 0/1, shape ``(…, P)``; for a mean over regimes, the share of time for
                which each unit is on.

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
        """The matrix A + W D of one linear regime, D = diag(1, …, 1, code).

        Args:
            code: Bits of the regime as in :meth:`regime_slopes`, shape ``(…, P)``.

        Returns:
            Tensor of shape ``(…, M, M)``.

        Raises:
            ValueError: If ``code`` does not have P entries.
        """
        return step_matrix(torch.diag(self.A), self.W, self.regime_slopes(code))

    def jacobian(self, z: Tensor) -> Tensor:
        """The Jacobian ∂z'/∂z of one step, which is the matrix of the regime that ``z`` lies in.

        Args:
            z: States z, shape ``(…, M)``. On a switching boundary (z=0) a unit counts as off.

        Returns:
            Tensor of shape ``(…, M, M)``.
        """
        return step_matrix(torch.diag(self.A), self.W, self.slopes(z))

    def permuted(self, order: Sequence[int] | Tensor) -> Recurrence:
        """The same network with its units in another order, or some of them only; inputs keep their order.

        Args:
            order: Indices of units, each at most once, shape ``(M,)`` or shorter: unit ``order[i]`` becomes unit i.

        Returns:
            The parameters in that order, with the same P: it is for the caller to keep the rectified units last. Where
            inputs are added directly, C becomes a matrix of zeros and ones.
        """
        index = torch.as_tensor(order, device=self.W.device)
        C = self.input_weights[index]
        return Recurrence(self.A[index], self.W[index][:, index].contiguous(), C, self.h[index], self.P)

    def linearised(self, units: Sequence[int]) -> Recurrence:
        """The network in which some nonlinear units are linear.

        Args:
            units: Nonlinear units, 0 to P−1, where 0 is unit M−P.

        Returns:
            The parameters with the units in the order of :meth:`linearised_order`, as linear units come first.

        Raises:
            ValueError: If a unit is not one of 0 … P−1.
        """
        return self.permuted(self.linearised_order(units))._replace(P=self.P - len(set(units)))

    def linearised_order(self, units: Sequence[int]) -> Tensor:
        """Which unit stands where after :meth:`linearised`: linear ones, then ``units``, then the other nonlinear ones.

        Args:
            units: Nonlinear units, 0 to P−1, where 0 is unit M−P.

        Returns:
            Tensor, int64 of shape ``(M,)``, on the device of the parameters; entry i is the unit that becomes unit i.

        Raises:
            ValueError: If a unit is not one of 0 … P−1.
        """
        chosen = self._places(units)
        # in the order of keys that are written on the device: a list of indices would be copied to it
        key = torch.full(self.h.shape, len(chosen) + 1, dtype=torch.int64, device=self.h.device)
        key[: self.linear_units] = 0
        for number, place in enumerate(chosen):
            key[place] = number + 1
        return key.argsort(stable=True)

    def silenced(self, units: Sequence[int]) -> Recurrence:
        """The network in which some nonlinear units are held at zero: nothing flows into them.

        Args:
            units: Nonlinear units, 0 to P−1, where 0 is unit M−P.

        Returns:
            The parameters with zeros in the rows of these units. They are zero from the first step on; a start that is
            not zero there must be set to zero.

        Raises:
            ValueError: If a unit is not one of 0 … P−1.
        """
        active = self.active(units)
        rows = active.unsqueeze(-1)
        return Recurrence(self.A * active, self.W * rows, self.input_weights * rows, self.h * active, self.P)

    def active(self, units: Sequence[int]) -> Tensor:
        """Which units are left where some nonlinear units are silenced.

        Args:
            units: Nonlinear units, 0 to P−1, where 0 is unit M−P.

        Returns:
            1 for units that are left and 0 for ``units``, shape ``(M,)``.

        Raises:
            ValueError: If a unit is not one of 0 … P−1.
        """
        active = torch.ones_like(self.h)
        for place in self._places(units):
            active[place] = 0.0
        return active

    def clamped(self, code: Tensor) -> Recurrence:
        """The linear network that stays in one regime, whatever the signs of its units.

        Args:
            code: Bits of the regime, bool or 0/1, shape ``(P,)``.

        Returns:
            The parameters with W D in place of W and P=0.

        Raises:
            ValueError: If ``code`` does not have P entries.
        """
        return self._replace(W=self.W * self.regime_slopes(code), P=0)

    def absolute(self) -> Recurrence:
        """The parameters without their signs: its results are the sizes of the terms that the network's add up from."""
        return Recurrence(self.A.abs(), self.W.abs(), None if self.C is None else self.C.abs(), self.h.abs(), self.P)

    def scaled(self, scale: Tensor) -> Recurrence:
        """The same network with its states in other units of measurement, z = scale · z'.

        Args:
            scale: Positive, shape ``(M,)``.

        Returns:
            The parameters of the network whose states are z / scale.
        """
        rows = scale.unsqueeze(-1)
        return Recurrence(self.A, self.W / rows * scale, self.input_weights / rows, self.h / scale, self.P)

    def to(self, target: torch.dtype | torch.device | str) -> Recurrence:
        """The parameters in another dtype or on another device.

        Args:
            target: The dtype or the device.

        Returns:
            The parameters there; P keeps its dtype.
        """
        A, W, h = self.A.to(target), self.W.to(target), self.h.to(target)
        P = self.P if isinstance(self.P, int) or isinstance(target, torch.dtype) else self.P.to(target)
        return Recurrence(A, W, None if self.C is None else self.C.to(target), h, P)

    def double(self) -> Recurrence:
        """The parameters in float64."""
        return self.to(torch.float64)

    def _places(self, units: Sequence[int]) -> list[int]:
        """Indices among all units of some nonlinear ones, each once."""
        count = int(self.P)
        wrong = [unit for unit in units if not 0 <= unit < count]
        if wrong:
            raise ValueError(f"units must be nonlinear units, 0 … P−1 with P={count}, got {wrong[0]}")
        return [self.h.shape[-1] - count + unit for unit in dict.fromkeys(units)]


def jvp(A: _Values, W: _Values, vectors: _Values, slopes: _Values) -> _Values:
    """(A + W D) v, for tensors and arrays alike: loops over small states are several times faster in numpy.

    Args:
        A: diagonal of A, shape ``(M,)``.
        W: coupling, shape ``(M, M)``.
        vectors: v, shape ``(…, M)``. A state times the Jacobian in its own regime is the next state without the drive.
        slopes: diagonal of D, broadcastable to that shape.

    Returns:
        Shape ``(…, M)``.
    """
    return A * vectors + (slopes * vectors) @ W.T


def step_matrix(A: _Values, W: _Values, slopes: _Values) -> _Values:
    """A + W D, for tensors and arrays alike: small matrices are faster in numpy.

    Args:
        A: as a matrix, shape ``(M, M)``.
        W: coupling, shape ``(M, M)``.
        slopes: diagonal of D, shape ``(…, M)``.

    Returns:
        Shape ``(…, M, M)``.
    """
    return A + W * slopes[..., None, :]
