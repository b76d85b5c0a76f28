"""Derivatives and transforms of PyTorch, each of which a backend does rightly or refuses with an error."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.autograd import functional as older
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, linearize, vjp, vmap
from torch.utils.checkpoint import checkpoint

from lightning_alrnn.nn import ALRNN

BATCH, TIME, UNITS = 3, 4, 4
LENGTHS = torch.tensor([4, 1, 3])


class Case:
    """A network, its parameters and a batch, in one dtype on one device."""

    def __init__(self, backend: str, dtype: torch.dtype, device: torch.device) -> None:
        torch.manual_seed(0)
        self.network = ALRNN(3, UNITS, 2, backend=backend, init="near_identity").to(device, dtype)  # type: ignore[arg-type]
        self.parameters: dict[str, Tensor] = dict(self.network.named_parameters())
        self.inputs = torch.randn(BATCH, TIME, 3, generator=torch.Generator().manual_seed(0)).to(device, dtype)
        self.lengths = LENGTHS.to(device)
        self.ones = torch.ones(BATCH, UNITS, device=device, dtype=dtype)

    def last(self, inputs: Tensor) -> Tensor:
        return self.network(inputs).last

    def of(self, **changed: Tensor) -> Tensor:
        """Last states with other parameters."""
        return functional_call(self.network, self.parameters | changed, (self.inputs,)).last  # type: ignore[no-any-return]

    def loss(self, parameters: dict[str, Tensor], inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        output = functional_call(self.network, parameters, (inputs,), {"lengths": lengths})
        return output.states.square().sum() + output.last.sum()  # type: ignore[no-any-return]

    def one_loss(self, parameters: dict[str, Tensor], inputs: Tensor, length: Tensor) -> Tensor:
        return self.loss(parameters, inputs.unsqueeze(0), length.unsqueeze(0))

    def loss_of_bias(self, h: Tensor) -> Tensor:
        return self.loss(self.parameters | {"h": h}, self.inputs)

    def directions(self) -> Tensor:
        """One direction for each number of the last states."""
        return torch.eye(BATCH * UNITS).to(self.inputs).view(-1, BATCH, UNITS)

    def weights(self) -> Tensor:
        """Two coupling matrices."""
        return torch.stack([self.network.W, 0.5 * self.network.W]).detach()

    def tangent(self, name: str) -> Tensor:
        """Tangent of the last states in the direction of the inputs or a parameter."""
        with forward_ad.dual_level():
            if name == "inputs":
                inputs = forward_ad.make_dual(self.inputs, torch.ones_like(self.inputs))
                return forward_ad.unpack_dual(self.last(inputs)).tangent
            value = self.parameters[name]
            return forward_ad.unpack_dual(
                self.of(**{name: forward_ad.make_dual(value, torch.ones_like(value))})
            ).tangent

    def tangent_of_gradient(self) -> Tensor:
        """Tangent of a gradient in the direction of what it is multiplied by."""
        with forward_ad.dual_level():
            weights = forward_ad.make_dual(self.ones, 2 * self.ones)
            (gradient,) = torch.autograd.grad(self.last(self.inputs), self.network.W, weights)
            return forward_ad.unpack_dual(gradient).tangent

    def gradient_of_gradient(self) -> Tensor:
        inputs = self.inputs.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(self.last(inputs).square().sum(), inputs, create_graph=True)
        return torch.autograd.grad(gradient.square().sum(), inputs)[0]

    def checkpointed(self, reentrant: bool) -> Tensor:
        inputs = self.inputs.clone().requires_grad_()
        loss: Any = checkpoint(lambda s: self.last(s).square().sum(), inputs, use_reentrant=reentrant)
        loss.backward()
        assert inputs.grad is not None
        return inputs.grad

    def hooked(self) -> Tensor:
        """Gradient through tensors that are kept elsewhere until they are used."""
        with torch.autograd.graph.saved_tensors_hooks(lambda t: t.clone().numpy(force=True), self._back):
            loss = self.last(self.inputs).square().sum()
        return torch.autograd.grad(loss, self.network.W)[0]

    def _back(self, kept: Any) -> Tensor:
        return torch.from_numpy(kept).to(self.inputs.device)

    def without_gradients(self, context: Any) -> Tensor:
        with context:
            states = self.network(self.inputs).states
        assert not states.requires_grad
        return states.clone()


TRANSFORMS: dict[str, Callable[[Case], object]] = {
    "grad": lambda c: grad(lambda p: c.loss(p, c.inputs))(c.parameters),
    "grad, padded": lambda c: grad(lambda p: c.loss(p, c.inputs, c.lengths))(c.parameters),
    "gradients of each sequence": lambda c: vmap(grad(c.one_loss), in_dims=(None, 0, 0))(
        c.parameters, c.inputs, c.lengths
    ),
    "vjp": lambda c: vjp(lambda W: c.of(W=W), c.network.W)[1](c.ones)[0],
    "jacrev": lambda c: jacrev(lambda W: c.of(W=W))(c.network.W),
    "vmap over the batch": lambda c: vmap(lambda s: c.last(s.unsqueeze(0))[0])(c.inputs),
    "vmap over weights": lambda c: vmap(lambda W: c.of(W=W))(c.weights()),
    "gradients, vmap over weights": lambda c: vmap(grad(lambda W: c.of(W=W).square().sum()))(c.weights()),
    "vmap of vmap": lambda c: vmap(vmap(lambda s: c.last(s.unsqueeze(0))[0]))(c.inputs.expand(2, -1, -1, -1)),
    "what stays constant": lambda c: grad(lambda w: (c.last(c.inputs) @ w).sum())(c.ones[0]),
    "hessian": lambda c: hessian(c.loss_of_bias)(c.parameters["h"]),
    "jacrev of jacrev": lambda c: jacrev(jacrev(c.loss_of_bias))(c.parameters["h"]),
    "jvp": lambda c: jvp(lambda p: c.of(**p), (c.parameters,), (c.parameters,))[1],
    "jvp, no_grad": lambda c: jvp(lambda s: torch.no_grad()(c.last)(s), (c.inputs,), (c.inputs,))[1],
    "jacfwd": lambda c: jacfwd(lambda p: c.of(**p))(c.parameters),
    "jacfwd of the inputs": lambda c: jacfwd(c.last)(c.inputs),
    "linearize": lambda c: linearize(c.last, c.inputs)[1](c.inputs),
    "jvp of vmap": lambda c: jvp(vmap(lambda s: c.last(s.unsqueeze(0))), (c.inputs,), (c.inputs,))[1],
    "vmap of jvp": lambda c: vmap(lambda W: jvp(lambda W: c.of(W=W), (W,), (W,))[1])(c.weights()),
    "jvp of grad": lambda c: jvp(grad(c.loss_of_bias), (c.parameters["h"],), (c.parameters["h"],))[1],
    "functional_call": lambda c: c.of(W=c.weights()[1]),
    "no_grad": lambda c: c.without_gradients(torch.no_grad()),
    "inference_mode": lambda c: c.without_gradients(torch.inference_mode()),
    "checkpoint": lambda c: c.checkpointed(False),
    "checkpoint, reentrant": lambda c: c.checkpointed(True),
    "saved_tensors_hooks": lambda c: c.hooked(),
    "batched gradients": lambda c: torch.autograd.grad(
        c.last(c.inputs), c.network.W, c.directions(), is_grads_batched=True
    )[0],
    "functional.jacobian": lambda c: older.jacobian(c.last, c.inputs),
    "functional.jacobian, forward-mode": lambda c: older.jacobian(
        c.last, c.inputs, strategy="forward-mode", vectorize=True
    ),
    "functional.jvp": lambda c: older.jvp(c.last, c.inputs, c.inputs)[1],
    "functional.hvp": lambda c: older.hvp(lambda s: c.last(s).square().sum(), c.inputs, c.inputs)[1],
    "create_graph": lambda c: c.gradient_of_gradient(),
    "forward AD of the inputs": lambda c: c.tangent("inputs"),
    "forward AD of W": lambda c: c.tangent("W"),
    "forward AD of a gradient": lambda c: c.tangent_of_gradient(),
}

_UNDER_FUNC = list(TRANSFORMS)[: list(TRANSFORMS).index("functional_call")]
_FORWARD = {
    *("jvp", "jvp, no_grad", "jacfwd", "jacfwd of the inputs", "linearize", "jvp of vmap", "vmap of jvp"),
    *("functional.jacobian, forward-mode", "forward AD of the inputs", "forward AD of W"),
}
_FORWARD_OF_GRADIENT = {"hessian", "jvp of grad", "forward AD of a gradient"}
_TWICE = {"jacrev of jacrev", "functional.jvp", "functional.hvp", "create_graph"}


def refusal(backend: str, transform: str) -> str | None:
    """Pattern of the message with which a backend refuses a transform; ``None`` if it does it."""
    if backend == "eager" or (backend == "auto" and transform in _FORWARD):  # which takes eager then
        return None
    if transform in _FORWARD:
        return "no derivative in forward mode"
    if backend == "cudnn":
        return "does not run under transforms of torch.func" if transform in _UNDER_FUNC else None
    if transform in _FORWARD_OF_GRADIENT:
        return "no derivative in forward mode, nor one of their gradient"
    return "can be differentiated once, not twice" if transform in _TWICE else None


@functools.cache
def _exact(transform: str, device: torch.device) -> object:
    return TRANSFORMS[transform](Case("eager", torch.float64, device))


def outcome(backend: str, transform: str, device: torch.device) -> str:
    """Return "right" or "refused"; raise ``AssertionError`` if a backend is wrong, or refuses what it promises."""
    expected, run = refusal(backend, transform), TRANSFORMS[transform]
    try:
        got = run(Case(backend, torch.float32, device))
    except (NotImplementedError, RuntimeError) as error:
        # cuDNN has no second derivatives, and PyTorch says so
        if (backend == "cudnn" and device.type == "cuda") or (expected is not None and re.search(expected, str(error))):
            return "refused"
        raise
    assert expected is None, f"{backend} does {transform}, but should refuse it: {expected}"
    torch.testing.assert_close(got, _exact(transform, device), rtol=1e-4, atol=1e-5, check_dtype=False)
    return "right"
