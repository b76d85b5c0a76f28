"""Backends against each other, in values and in all gradients."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from lightning_utilities.core.rank_zero import rank_zero_only
from torch import Tensor
from torch._subclasses import FakeTensorMode

from lightning_alrnn.nn import ALRNN, Recurrence, ScanOutput, run_recurrence
from lightning_alrnn.nn.scan import available_backends, dispatch, operator
from lightning_alrnn.nn.scan.cudnn import KINK

NAMES = ("inputs", "state", "A", "W", "C", "h")
Values = dict[str, Any]


def scan(values: Values, nonlinear: int, lengths: Tensor | None = None, backend: str = "auto") -> ScanOutput:
    inputs, state, A, W, C, h = values.values()
    return run_recurrence(Recurrence(A, W, C, h, nonlinear), inputs, state, lengths, backend)


def single(values: Values) -> Values:
    return {name: None if value is None else value.float() for name, value in values.items()}


def run(
    values: Values, nonlinear: int, backend: str, lengths: Tensor | None, use: str
) -> tuple[list[Tensor], list[Tensor]]:
    """Outputs, and the gradients of a random linear function of the outputs named by ``use``.

    Its weights are positive, so that sums over batch and time do not cancel.
    """
    leaves = {name: None if value is None else value.detach().requires_grad_() for name, value in values.items()}
    output = scan(leaves, nonlinear, lengths, backend)
    generator = torch.Generator().manual_seed(7)
    loss = torch.zeros((), dtype=torch.float64)
    for name, value in output._asdict().items():
        weight = 0.5 + torch.rand(value.shape, generator=generator).to(value.dtype)
        if use in (name, "both"):
            loss = loss + (value * weight).sum()
    loss.backward()
    grads = [torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for leaf in leaves.values() if leaf is not None]
    return [value.detach() for value in output], grads


def draw(
    batch: int,
    time: int,
    hidden: int,
    nonlinear: int,
    *,
    inputs: int | None = 3,
    self_connections: str = "all",
    turned: bool = True,
) -> Values:
    """A problem whose nonlinear units switch often, but stay so far from 0 that rounding never takes one across.

    Each unit is driven by about ±3, and a nonlinear one gets little from the others. The linear ones hold on to the
    past. All numbers are exact in float32.
    """
    generator = torch.Generator().manual_seed(1000 * batch + 100 * time + 10 * hidden + nonlinear)

    def uniform(*shape: int) -> Tensor:
        return 2 * torch.rand(*shape, generator=generator).double() - 1

    def sign(*shape: int) -> Tensor:
        return torch.where(uniform(*shape) > 0, 1.0, -1.0).double()

    linear = hidden - nonlinear
    width = hidden if inputs is None else inputs
    drive = sign(batch, time, width) * (1 + 0.1 * uniform(batch, time, width))
    values: Values = {
        "inputs": 3 * drive if inputs is None else drive,
        "state": sign(batch, hidden) * (1 + uniform(batch, hidden).abs()),
        "A": 0.1 * uniform(hidden),
        "W": 0.2 / hidden * uniform(hidden, hidden) * torch.where(torch.arange(hidden) < linear, 0.05, 1.0)
        + torch.diag(torch.where(torch.arange(hidden) < linear, 0.8, 0.0)),
        "C": None,
        "h": 0.1 * uniform(hidden),
    }
    if self_connections == "nonlinear":
        values["A"][:linear] = 0.0
    if inputs is not None:
        C = 0.1 / inputs * uniform(hidden, inputs)
        C[torch.arange(hidden), torch.arange(hidden) % inputs] = 3 * sign(hidden)
        values["C"] = C
    values = {name: None if v is None else v.float().double() for name, v in values.items()}
    if turned:  # the same numbers, none of them contiguous
        for name, v in values.items():
            if v is not None:
                values[name] = torch.stack((v, v), dim=-1)[..., 0] if v.ndim == 1 else v.mT.contiguous().mT
    return values


TINY = 1e-30  # a gradient that has decayed that far is no float32
LIMITS = {torch.float32: 1e-5, torch.float64: 1e-12}  # of the largest entry


@pytest.mark.parametrize("hidden", [1, 17, 50, 200])
def test_every_backend_equals_eager(hidden: int) -> None:
    cases = [
        (batch, time, nonlinear)
        for batch in (1, 5, 6, 7, 64)
        for time in (1, 2, 40)
        for nonlinear in sorted({0, 1, hidden})
    ]
    options = list(itertools.product(("states", "last", "both"), (False, True), ("nonlinear", "all"), (3, None, 40)))
    left_out = 0
    for number, (batch, time, nonlinear) in enumerate(cases):
        # every case with a few of the combinations, in an order that brings all of them to each size
        for choice in range(3 if batch * time * hidden < 20_000 else 1):
            use, padded, self_connections, inputs = options[(7 * number + 5 * choice) % len(options)]
            turned = (number + choice) % 3 == 0
            options_of_values: Any = {"inputs": inputs, "self_connections": self_connections, "turned": turned}
            values = draw(batch, time, hidden, nonlinear, **options_of_values)
            lengths = (torch.arange(batch) * 37) % time + 1 if padded else None
            names = ["states", "last", *(name for name in NAMES if values[name] is not None)]
            exact_outputs, exact_grads = run(values, nonlinear, "eager", lengths, use)
            switching = exact_outputs[0][..., hidden - nonlinear :]
            assert not (switching[switching != 0].abs() < 0.5).any()
            # cudnn: a linear unit within rounding of the kink has no gradient, and none can stay away from it by design
            linear = exact_outputs[0][..., : hidden - nonlinear]
            from_kink = float((linear[linear != 0] - KINK).abs().amin()) if (linear != 0).any() else 1.0
            exact = exact_outputs + exact_grads
            eager = [got for part in run(single(values), nonlinear, "eager", lengths, use) for got in part]
            noise = [float((got - want).abs().max()) for got, want in zip(eager, exact, strict=True)]
            for backend, dtype in itertools.product(available_backends(), LIMITS):
                if backend == "eager" or (backend in ("native", "triton") and dtype != torch.float32):
                    continue
                # its interpreter is slow
                if backend == "triton" and (hidden > 128 or batch * time > 100 or choice > 0):
                    continue
                inexact = single(values) if dtype == torch.float32 else values
                outputs, grads = run(inexact, nonlinear, backend, lengths, use)
                if backend == "cudnn" and from_kink < 30 * torch.finfo(dtype).eps:
                    left_out += 1
                    grads = exact_grads
                # eager rounds as well in float32; cudnn sums over p and n apart, which cancel
                factor = 3 if backend == "cudnn" else 1
                for name, got, want, rounding in zip(names, outputs + grads, exact, noise, strict=True):
                    error, scale = float((got - want).abs().max()), float(want.abs().max())
                    allowed = factor * (LIMITS[dtype] * scale + TINY)
                    if dtype == torch.float32:
                        allowed += 2 * factor * rounding
                    case = f"{backend} {dtype}, B={batch} T={time} P={nonlinear}, {use}, {padded=}, K={inputs}"
                    assert error <= allowed, f"{name} of {case}: {error:.3g} of {scale:.3g}, eager {rounding:.3g}"
    assert left_out <= 3


@pytest.mark.parametrize("backend", ["fused", "native", "triton", "cudnn"])
@pytest.mark.parametrize("nonlinear", [0, 2, 5])
@pytest.mark.parametrize("padded", [False, True])
def test_gradients_where_all_states_are_exactly_zero(backend: str, nonlinear: int, padded: bool) -> None:
    # a ReLU passes no gradient at its kink, but a linear unit does, and so does the A of a nonlinear one
    if backend not in available_backends():
        pytest.skip("the kernel is not compiled here")
    values = draw(3, 6, 5, nonlinear)
    for name in ("inputs", "state", "h"):
        values[name] = torch.zeros_like(values[name])
    # with other weights, cudnn may round a nonlinear unit to just above its kink
    values["W"] = 0.27 * torch.randn(5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    values = single(values)
    lengths = torch.tensor([2, 6, 1]) if padded else None
    outputs, grads = run(values, nonlinear, backend, lengths, "both")
    _, expected = run(values, nonlinear, "eager", lengths, "both")
    torch.testing.assert_close(outputs[0], torch.zeros_like(outputs[0]), rtol=0, atol=1e-7)
    for name, got, want in zip(NAMES, grads, expected, strict=True):
        torch.testing.assert_close(got, want, rtol=0, atol=1e-5 * float(want.abs().max()) + 1e-6, msg=name)


@pytest.mark.parametrize("backend", ["eager", "fused"])
@pytest.mark.parametrize("nonlinear", [0, 2, 4])
@pytest.mark.parametrize("padded", [False, True])
def test_gradcheck(backend: str, nonlinear: int, padded: bool) -> None:
    values = draw(2, 3, 4, nonlinear)
    lengths = torch.tensor([2, 3]) if padded else None

    def function(*leaves: Tensor) -> ScanOutput:
        return scan(dict(zip(NAMES, leaves, strict=True)), nonlinear, lengths, backend)

    leaves = [value.detach().clone().requires_grad_() for value in values.values()]
    assert torch.autograd.gradcheck(function, leaves)
    if backend == "eager":
        assert torch.autograd.gradgradcheck(function, leaves)


def test_fused_says_that_it_cannot_be_differentiated_twice() -> None:
    values = draw(2, 3, 3, 1)
    W = values["W"].requires_grad_()
    states = scan(values, 1, backend="fused").states
    (grad,) = torch.autograd.grad(states.square().sum(), W, create_graph=True)
    with pytest.raises(RuntimeError, match="use backend='eager' for second derivatives"):
        grad.sum().backward()


def test_writing_into_an_output_does_not_corrupt_gradients() -> None:
    values = draw(2, 3, 3, 1)
    W = values["W"].requires_grad_()

    def gradient(spoil: bool) -> Tensor:
        states, last = scan(values, 1, backend="fused")
        loss = states.sum()
        if spoil:
            last.detach().zero_()
        return torch.autograd.grad(loss, W)[0]

    assert torch.equal(gradient(True), gradient(False))


NATIVE = pytest.mark.skipif("native" not in available_backends(), reason="the kernel is not compiled here")


@NATIVE
def test_auto_takes_the_kernel_for_float32_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    dtypes: list[torch.dtype] = []
    forward = operator.kernel.native_forward

    def spy(arguments: Any) -> object:
        dtypes.append(arguments.inputs.dtype)
        return forward(arguments)

    monkeypatch.setattr(operator.kernel, "native_forward", spy)
    values = draw(2, 3, 3, 1)
    scan(values, 1)
    assert dtypes == []
    scan(single(values), 1)
    assert dtypes == [torch.float32]
    with pytest.raises(TypeError, match=r"computes in float32 on the CPU, got torch.float64 on cpu"):
        scan(values, 1, backend="native")


def test_without_the_kernel_everything_runs_on_fused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operator, "kernel", None)
    monkeypatch.setattr(operator, "triton_is_installed", False)
    assert available_backends() == ("eager", "fused", "cudnn")
    values = single(draw(2, 3, 3, 1))
    assert torch.equal(run(values, 1, "auto", None, "both")[0][0], run(values, 1, "fused", None, "both")[0][0])
    with pytest.raises(ValueError, match="backend must be one of 'auto', 'eager', 'fused', 'cudnn', got 'native'"):
        scan(values, 1, backend="native")


def test_auto_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def choice(hidden: int, **changes: object) -> str:
        rnn = ALRNN(3, hidden, 2)
        recurrence = rnn.recurrence()._replace(P=2)._replace(**changes)  # type: ignore[arg-type]
        return dispatch._fastest("cuda", recurrence, torch.zeros(2, 3, 3))

    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(operator, "triton_is_installed", True)
    monkeypatch.setattr(dispatch, "_triton_starts", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    assert [choice(hidden) for hidden in (2, 128, 129)] == ["triton", "triton", "cudnn"]
    assert choice(129, P=torch.tensor(2)) == "fused"  # cuDNN's form would have to read P from the device
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    assert choice(50) == "fused"  # too little shared memory for the larger of them
    monkeypatch.setattr(operator, "triton_is_installed", False)
    assert [choice(50), choice(200)] == ["fused", "cudnn"]


@pytest.mark.skipif(not operator.triton_is_installed, reason="Triton is not installed")
def test_triton_that_cannot_start_is_said_and_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    from triton.runtime import driver

    class Active:
        @property
        def utils(self) -> None:
            raise RuntimeError("Failed to find C compiler")

    dispatch._triton_starts.cache_clear()
    monkeypatch.setattr(type(driver), "active", Active())
    with pytest.warns(UserWarning, match="Triton does not start, .* Failed to find C compiler"):
        assert not dispatch._triton_starts()
    dispatch._triton_starts.cache_clear()


@pytest.mark.skipif(not operator.triton_is_installed, reason="Triton is not installed")
def test_a_layer_on_a_gpu_takes_triton_and_reads_nothing_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    backends: list[str] = []
    forward = operator.scan
    monkeypatch.setattr(operator, "scan", lambda *arguments: (backends.append(arguments[-1]), forward(*arguments))[1])
    monkeypatch.setattr(dispatch, "_runs_triton", lambda device: True)
    with torch.no_grad(), FakeTensorMode(), torch.device("cuda"):  # values are never computed: to read one is an error
        output = ALRNN(3, 50, 4)(torch.zeros(4, 10, 3), lengths=torch.full((4,), 7))
    assert backends == ["triton"]
    assert output.states.device.type == "cuda"
    with pytest.raises(ValueError, match="backend='triton' takes at most M=128 units, got 129"):
        ALRNN(3, 129, 4, backend="triton")(torch.zeros(4, 10, 3))
    monkeypatch.setattr(dispatch, "_INTERPRETED", False)
    with pytest.raises(TypeError, match=r"computes in float32 on a CUDA device, got torch.float32 on cpu: use 'auto'"):
        ALRNN(3, 50, 4, backend="triton")(torch.zeros(4, 10, 3))


OPERATORS = [name for name in ("fused", "native", "triton") if name in available_backends()]


@pytest.mark.parametrize("backend", OPERATORS)
@pytest.mark.parametrize(("padded", "inputs"), [(False, 3), (True, None)])
def test_opcheck(backend: str, padded: bool, inputs: int | None) -> None:
    plain = list(single(draw(3, 4, 5, 2, inputs=inputs)).values())
    leaves = [None if value is None else value.clone().requires_grad_() for value in plain]
    lengths = torch.tensor([4, 1, 3]) if padded else None
    arguments = (*leaves, torch.tensor(2), lengths, backend)
    torch.library.opcheck(torch.ops.lightning_alrnn.scan.default, arguments)
    states, last = (output.detach() for output in torch.ops.lightning_alrnn.scan.default(*arguments))
    ones = torch.ones_like(states)
    for needs, *grads in ((True, ones, None), (False, None, last), (True, torch.ones(()).expand_as(states), last)):
        backward_arguments = (*grads, states, *plain, torch.tensor(2), lengths, needs, needs, backend)
        torch.library.opcheck(torch.ops.lightning_alrnn.scan_backward.default, backward_arguments)


@pytest.mark.parametrize("backend", OPERATORS)
@pytest.mark.parametrize("padded", [False, True])
def test_compiled_without_a_graph_break(backend: str, padded: bool) -> None:
    torch.manual_seed(0)
    torch.compiler.reset()
    rnn = ALRNN(3, 8, 4, backend=backend)  # type: ignore[arg-type]
    readout = torch.nn.Linear(8, 2)

    def loss(inputs: Tensor, lengths: Tensor | None) -> Tensor:
        states, last = rnn(inputs, lengths=lengths)
        return readout(last).square().sum() + states.mean()

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    for batch, time in ((4, 10), (3, 7)):
        inputs = torch.randn(batch, time, 3, requires_grad=True)
        lengths = torch.randint(1, time + 1, (batch,)) if padded else None
        leaves = [inputs, *rnn.parameters(), *readout.parameters()]
        expected, got = loss(inputs, lengths), compiled(inputs, lengths)
        torch.testing.assert_close(got, expected)
        torch.testing.assert_close(torch.autograd.grad(got, leaves), torch.autograd.grad(expected, leaves))


@pytest.mark.parametrize("backend", ["eager", *OPERATORS, "cudnn"])
def test_autocast_leaves_the_recurrence_in_float32(backend: str) -> None:
    rnn = ALRNN(3, 8, 4, backend=backend)  # type: ignore[arg-type]
    inputs = torch.randn(4, 10, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(rnn(inputs).states, rnn.float()(inputs).states)
        half = rnn(inputs.bfloat16()).states
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, rnn(inputs.bfloat16().float()).states, rtol=0, atol=0)
    assert rnn.bfloat16()(inputs.bfloat16()).states.dtype == torch.bfloat16


@pytest.mark.parametrize("backend", OPERATORS)
def test_the_operator_itself_casts_under_autocast(backend: str) -> None:
    values = single(draw(2, 3, 4, 1))
    expected = torch.ops.lightning_alrnn.scan.default(*values.values(), torch.tensor(1), None, backend)
    W = values["W"]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = torch.mm(W, torch.eye(4))  # bfloat16
        assert mixed.dtype == torch.bfloat16
        got = torch.ops.lightning_alrnn.scan.default(*(values | {"W": mixed}).values(), torch.tensor(1), None, backend)
    assert got[0].dtype == torch.float32
    torch.testing.assert_close(got[0], expected[0], rtol=0, atol=0.1)


def test_the_environment_names_the_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    values = draw(2, 3, 3, 1)
    exact, _ = run(values, 1, "eager", None, "states")
    monkeypatch.setenv("ALRNN_BACKEND", "eager")
    assert torch.equal(run(values, 1, "auto", None, "states")[0][0], exact[0])
    values["h"].requires_grad_()
    assert "Stack" in type(scan(values, 1).states.grad_fn).__name__
    # an argument takes precedence
    assert "Stack" not in type(scan(values, 1, backend="fused").states.grad_fn).__name__
    monkeypatch.setenv("ALRNN_BACKEND", "gpu")
    with pytest.raises(ValueError, match=r"ALRNN_BACKEND must be one of 'auto', .*'cudnn', got 'gpu'"):
        scan(values, 1)


def test_the_choice_is_announced_once(monkeypatch: pytest.MonkeyPatch) -> None:
    messages: list[str] = []
    monkeypatch.setattr(dispatch, "rank_zero_info", messages.append)
    monkeypatch.setattr(rank_zero_only, "rank", 0, raising=False)  # as Lightning does
    dispatch._announce.cache_clear()
    values = draw(2, 3, 3, 1)
    for _ in range(3):
        scan(values, 1)
    assert messages == ["AL-RNN recurrence in float64 on cpu: backend 'fused'"]
    monkeypatch.setattr(operator, "kernel", None)
    scan(single(values), 1)
    assert messages[1:] == [
        "AL-RNN recurrence in float32 on cpu: backend 'fused' "
        "(the C kernel was not compiled when the package was installed)"
    ]
    dispatch._announce.cache_clear()
