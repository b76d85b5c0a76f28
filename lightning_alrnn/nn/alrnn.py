"""The almost-linear RNN layer."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, TypeGuard

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.func import debug_unwrap
from torch.nn import functional

from lightning_alrnn.errors import check_at_least, check_choice
from lightning_alrnn.nn.recurrence import Recurrence
from lightning_alrnn.nn.scan import Backend, ScanOutput, check_backend, run_recurrence

SelfConnections = Literal["nonlinear", "all"]
"""Units with a diagonal entry A_ii: the nonlinear ones (TMLR 2026) or all (NeurIPS 2024)."""

Init = Literal["gaussian", "positive_definite", "near_identity"]
"""Initialisation of the parameters."""

InitialState = Literal["zeros", "learned", "uniform"]
"""Initial state of a sequence without an argument ``state``."""


class ALRNN(nn.Module):
    r"""Almost-linear RNN: a recurrent layer in which only the last P of M units are nonlinear.

    .. math:: z_t = A z_{t-1} + W φ^*(z_{t-1}) + C s_t + h

    φ* is the identity on the first M−P units and a ReLU on the last P, whose signs divide the state space into at most
    2^P linear regimes. See Brenner & Koppe, TMLR 2026 (arXiv:2506.07919); Brenner et al., NeurIPS 2024
    (arXiv:2410.14240).

    Args:
        input_size: Number K of input channels. ``None`` adds inputs of width M directly to the units, without C.
        hidden_size: Number M of units, at least 1.
        nonlinear_units: Number P of rectified units, 0 ≤ P ≤ M.
        self_connections: Units with an entry in A: "nonlinear" (the P nonlinear units) or "all" (all M units).
        init: Initialisation. "gaussian" draws A, W and h from 0.01·N(0,1). "positive_definite" sets A to the diagonal
            of a random positive definite matrix with spectral radius 1, draws W from 0.01·N(0,1) and sets h=0.
            "near_identity" gives every unit the self-coupling a (``initial_coupling``), adds W from (1−a)·N(0,1)/√M
            and sets h=0. In the last two, a unit without an entry in A has the value on the diagonal of W. C is always
            drawn from 0.1·N(0,1).
        initial_state: Initial state of a sequence: "zeros", "learned" (a parameter ``z0``) or "uniform" (random in
            training, zeros in evaluation; several processes together draw the states that one process draws).
        backend: Implementation of the recurrence, see :mod:`lightning_alrnn.nn.scan`.
        initial_radius: Radius r of ``initial_state="uniform"``, which draws from U(−r, r); ``None`` for 1/√batch, with
            the sequences of all processes.
        initial_coupling: Self-coupling a of ``init="near_identity"``, 0 ≤ a ≤ 1: a memory of about 1/(1−a) steps.

    Attributes:
        A: Diagonal of A, shape ``(P,)`` or ``(M,)``.
        W: Coupling matrix, shape ``(M, M)``.
        C: Input weights, shape ``(M, K)``, or ``None`` if ``input_size`` is ``None``.
        h: Bias, shape ``(M,)``.

    Raises:
        ValueError: If a size is out of range or an option is unknown.

    Example:
        >>> rnn = ALRNN(input_size=2, hidden_size=8, nonlinear_units=3)
        >>> states, last = rnn(torch.randn(4, 10, 2))
        >>> states.shape, last.shape
        (torch.Size([4, 10, 8]), torch.Size([4, 8]))
    """

    P: Tensor
    A: nn.Parameter
    W: nn.Parameter
    C: nn.Parameter | None
    h: nn.Parameter

    def __init__(
        self,
        input_size: int | None,
        hidden_size: int,
        nonlinear_units: int,
        *,
        self_connections: SelfConnections = "nonlinear",
        init: Init = "gaussian",
        initial_state: InitialState = "zeros",
        backend: Backend = "auto",
        initial_radius: float | None = None,
        initial_coupling: float = 0.9,
    ) -> None:
        super().__init__()
        check_at_least(1, **{"hidden_size (M)": hidden_size})
        if input_size is not None and input_size < 1:
            raise ValueError(f"input_size (K) must be at least 1, or None to add the inputs directly, got {input_size}")
        if not 0 <= nonlinear_units <= hidden_size:
            raise ValueError(
                f"nonlinear_units (P) must lie between 0 and hidden_size (M={hidden_size}), got {nonlinear_units}"
            )
        check_choice("self_connections", self_connections, SelfConnections)
        check_choice("init", init, Init)
        check_choice("initial_state", initial_state, InitialState)
        if initial_radius is not None and not initial_radius > 0:
            raise ValueError(f"initial_radius must be positive, got {initial_radius}")
        if not 0 <= initial_coupling <= 1:
            raise ValueError(f"initial_coupling must lie between 0 and 1, got {initial_coupling}")
        check_backend(backend)

        self.input_size = input_size
        self.hidden_size = hidden_size
        self._nonlinear_units = nonlinear_units
        self.register_buffer("P", None, persistent=False)
        self.self_connections = self_connections
        self.init = init
        self.initial_state = initial_state
        self.initial_radius = initial_radius
        self.initial_coupling = initial_coupling
        self.backend = backend

        self.A = nn.Parameter(torch.empty(hidden_size if self_connections == "all" else nonlinear_units))
        self.W = nn.Parameter(torch.empty(hidden_size, hidden_size))
        self.h = nn.Parameter(torch.empty(hidden_size))
        self.C = None if input_size is None else nn.Parameter(torch.empty(hidden_size, input_size))
        self.z0 = nn.Parameter(torch.empty(hidden_size)) if initial_state == "learned" else None
        self.reset_parameters()
        self._refill()

    @property
    def nonlinear_units(self) -> int:
        """Number P of rectified units."""
        return self._nonlinear_units

    def _refill(self) -> None:
        """Make P a tensor, so that torch.func can stack networks that differ in it. Checkpoints do not hold it."""
        self.P = torch.tensor(self._nonlinear_units, device=self.W.device)
        self._own_P = (self.P,)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> ALRNN:
        # to_empty would leave P without a value
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._refill()
        return self

    def _load_from_state_dict(self, *arguments: Any) -> None:
        super()._load_from_state_dict(*arguments)
        self._refill()  # with assign=True the weights may be on another device

    @property
    def linear_units(self) -> int:
        """Number M−P of units that are never rectified."""
        return self.hidden_size - self.nonlinear_units

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw all parameters again as ``init`` says."""
        size = self.hidden_size
        if self.init == "gaussian":
            nn.init.normal_(self.W, std=0.01)
            nn.init.normal_(self.h, std=0.01)
            if self.A.numel():
                nn.init.normal_(self.A, std=0.01)
        else:
            nn.init.zeros_(self.h)
            if self.init == "near_identity":
                nn.init.normal_(self.W, std=(1 - self.initial_coupling) / math.sqrt(size))
                diagonal = torch.full((size,), float(self.initial_coupling))
            else:
                nn.init.normal_(self.W, std=0.01)
                factor = torch.randn(size, size)
                matrix = factor.T @ factor / size + torch.eye(size)
                diagonal = matrix.diagonal() / torch.linalg.eigvalsh(matrix)[-1]
            only_in_W = size - self.A.numel()  # number of units without an entry in A
            self.A.copy_(diagonal[only_in_W:])
            self.W.diagonal()[:only_in_W] += diagonal[:only_in_W].to(self.W)
        if self.C is not None:
            nn.init.normal_(self.C, std=0.1)
        if self.z0 is not None:
            nn.init.zeros_(self.z0)

    def recurrence(self) -> Recurrence:
        """Return the parameters as one value, in which A has an entry for every unit."""
        single = self.P is self._own_P[0]
        A: Tensor = self.A
        if A.shape[-1] < self.hidden_size:
            A = functional.pad(A, (self.hidden_size - A.shape[-1], 0))
        # the layout for cuDNN depends on P, and reading a tensor would halt the device
        P = self.nonlinear_units if single and A.device.type != "cpu" else self.P
        recurrence = Recurrence(A, self.W, self.C, self.h, P)
        if single or self.self_connections == "all":
            return recurrence
        # in a stack of networks that differ in P, A has M entries: see stack_networks
        return recurrence._replace(A=torch.where(recurrence.nonlinear, A, 0.0))

    def diagonal(self) -> Tensor:
        """Return the diagonal of A over all units, shape ``(M,)``; 0 for units without a self-connection."""
        return self.recurrence().A

    def forward(self, inputs: Tensor, state: Tensor | None = None, lengths: Tensor | None = None) -> ScanOutput:
        """Run the network on a batch of sequences.

        The recurrence runs in float32 under autocast and if the parameters have half precision.

        Args:
            inputs: Inputs s_1 … s_T, shape ``(batch, time, K)``, or ``(batch, time, M)`` if ``input_size`` is ``None``.
            state: Initial state z_0, shape ``(batch, M)``; ``None`` for ``initial_state``.
            lengths: Number of valid steps (1 … T), int64 of shape ``(batch,)``; ``None`` if all steps are valid.

        Raises:
            ValueError: If a shape does not fit, or a length on the CPU is not within 1 … T.
            TypeError: If inputs and parameters differ in dtype.
        """
        self.check_inputs(inputs, state, lengths)
        with full_precision(inputs.device):
            recurrence = self.recurrence().to(torch.promote_types(self.W.dtype, torch.float32))
            dtype = recurrence.W.dtype
            if state is None:
                state = self.start(inputs.shape[0])
            if _can_look_at(lengths) and bool((debug_unwrap(lengths) == inputs.shape[1]).all()):
                lengths = None  # nothing is padded
            output = run_recurrence(recurrence, inputs.to(dtype), state.to(dtype), lengths, self.backend)
            return ScanOutput(output.states.to(self.W.dtype), output.last.to(self.W.dtype))

    def step(self, z: Tensor, s: Tensor | None = None) -> Tensor:
        """Compute one step of the recurrence.

        Args:
            z: States, shape ``(…, M)``.
            s: Inputs, shape ``(…, K)``, or ``(…, M)`` if ``input_size`` is ``None``; ``None`` for no input.

        Returns:
            Next states, shape ``(…, M)``.
        """
        return self.recurrence().step(z, s)

    def regime(self, z: Tensor) -> Tensor:
        """Return the linear regime of each state: which nonlinear units are on, z > 0.

        Args:
            z: States, shape ``(…, M)``.

        Returns:
            Tensor, bool of shape ``(…, P)``; entry i belongs to unit M−P+i.

        Raises:
            ValueError: For a stack of networks that differ in P.
        """
        if self.P is not self._own_P[0] and bool((debug_unwrap(self.P) != self.nonlinear_units).any()):
            raise ValueError("networks that differ in P have regimes of different widths: pass the networks one by one")
        return z[..., self.linear_units :] > 0

    def regime_matrix(self, code: Tensor) -> Tensor:
        """Return the matrix A + W D of one linear regime, D = diag(1, …, 1, code).

        Args:
            code: Bits of the regime, bool or 0/1, shape ``(…, P)``.

        Returns:
            Tensor of shape ``(…, M, M)``.

        Raises:
            ValueError: If ``code`` does not have P entries.
        """
        return self.recurrence().regime_matrix(code)

    def jacobian(self, z: Tensor) -> Tensor:
        """Return the Jacobian ∂z'/∂z of one step, which is the matrix of the regime of ``z``.

        Args:
            z: States, shape ``(…, M)``. A unit on a switching boundary (z=0) counts as off.

        Returns:
            Tensor of shape ``(…, M, M)``.
        """
        return self.recurrence().jacobian(z)

    def extra_repr(self) -> str:
        return (
            f"input_size={self.input_size}, hidden_size={self.hidden_size}, nonlinear_units={self.nonlinear_units}, "
            f"self_connections={self.self_connections!r}, init={self.init!r}, initial_state={self.initial_state!r}, "
            f"backend={self.backend!r}"
        )

    def start(self, batch: int) -> Tensor:
        """Return initial states as ``initial_state`` says.

        Args:
            batch: Number of sequences.

        Returns:
            Tensor of shape ``(batch, M)``.
        """
        if self.z0 is not None:
            return self.z0.expand(batch, -1)
        if self.initial_state != "uniform" or not self.training:
            return self.W.new_zeros(batch, self.hidden_size)
        # each process draws the states of all, as their generators agree, and takes those of its own sequences, which
        # samplers deal out in turn: the sequences then start as with one process
        rank, processes = (dist.get_rank(), dist.get_world_size()) if _is_distributed() else (0, 1)
        radius = self.initial_radius or 1.0 / math.sqrt(max(batch * processes, 1))
        start = self.W.new_empty(batch * processes, self.hidden_size).uniform_(-radius, radius)
        return start[rank::processes]

    def check_inputs(self, inputs: Tensor, state: Tensor | None, lengths: Tensor | None) -> None:
        """Check the arguments of :meth:`forward`.

        Args:
            inputs: Inputs s_1 … s_T, shape ``(batch, time, K)``, or ``(batch, time, M)`` if ``input_size`` is ``None``.
            state: Initial state z_0, shape ``(batch, M)``, or ``None``.
            lengths: Number of valid steps of each sequence (1 … T), int64 of shape ``(batch,)``, or ``None``.

        Raises:
            ValueError: If a shape does not fit or a length is out of range.
            TypeError: If inputs and parameters differ in dtype.
        """
        name = "hidden_size" if self.input_size is None else "input_size"
        width = getattr(self, name)
        if inputs.ndim != 3 or inputs.shape[-1] != width or inputs.shape[1] == 0:
            shape = f"(batch, time, {name}={width}) with at least one step"
            raise ValueError(f"inputs must have shape {shape}, got {tuple(inputs.shape)}")
        half = (torch.float16, torch.bfloat16)  # of autocast, or of the parameters: raised to float32
        if inputs.dtype not in (self.W.dtype, *half) and self.W.dtype not in half:
            raise TypeError(
                f"inputs must have the dtype of the parameters, {self.W.dtype}, got {inputs.dtype}: "
                f"convert one of them, as in inputs.to({self.W.dtype}) or rnn.to({inputs.dtype})"
            )
        batch, time = inputs.shape[:2]
        if state is not None and state.shape != (batch, self.hidden_size):
            raise ValueError(
                f"state must have shape (batch, hidden_size) = {(batch, self.hidden_size)}, got {tuple(state.shape)}"
            )
        if lengths is not None:
            check_lengths(lengths, batch, time)


def _is_distributed() -> bool:
    return dist.is_available() and dist.is_initialized()


def full_precision(device: torch.device) -> AbstractContextManager[object]:
    """Return a context without autocast, in which the recurrence runs."""
    if torch.amp.is_autocast_available(device.type) and torch.is_autocast_enabled(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()


def check_lengths(lengths: Tensor, batch: int, time: int) -> None:
    """Raise ``ValueError`` unless lengths are integers of shape ``(batch,)`` and, on the CPU, from 1 to ``time``."""
    if lengths.shape != (batch,) or lengths.is_floating_point() or lengths.dtype == torch.bool:
        raise ValueError(
            f"lengths must be int64 of shape (batch,) = {(batch,)}, got {lengths.dtype} of shape {tuple(lengths.shape)}"
        )
    if _can_look_at(lengths):
        lengths = debug_unwrap(lengths)  # under torch.func, the values of all networks
        wrong = (lengths < 1) | (lengths > time)
        if bool(wrong.any()):
            index = wrong.nonzero()[0].tolist()
            value = int(lengths[tuple(index)])
            raise ValueError(f"lengths must lie between 1 and the number of steps, {time}; lengths{index} is {value}")


def _can_look_at(lengths: Tensor | None) -> TypeGuard[Tensor]:
    """Whether values can be read without halting an accelerator or breaking a compiled graph."""
    return lengths is not None and lengths.device.type == "cpu" and not torch.compiler.is_compiling()
