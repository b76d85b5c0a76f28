"""The GPU kernels: in Triton's interpreter against PyTorch in float64, and compiled ahead of time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton")

from lightning_alrnn.nn.scan.fused import Arguments, Gradients, fused_backward, fused_forward
from lightning_alrnn.nn.scan.triton import triton_backward, triton_forward

Results = tuple[Tensor, Tensor, Gradients]


def networks(E: int, B: int, T: int, M: int, K: int | None, padded: bool = False) -> Arguments:
    """E networks with P from 0 to M, inputs, states and lengths, some of none."""
    generator = torch.Generator().manual_seed(E + B + T + M)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    return Arguments(
        normal(E, B, T, M if K is None else K),
        normal(E, B, M),
        0.5 * normal(E, M),
        0.6 / M**0.5 * normal(E, M, M),
        None if K is None else normal(E, M, K),
        0.1 * normal(E, M),
        torch.linspace(0, M, E).long() if E > 1 else torch.tensor([M // 2]),
        torch.randint(0, T + 1, (E, B), generator=generator) if padded else None,
    )


def run(arguments: Arguments, grad_states: Tensor | None, grad_last: Tensor | None) -> Results:
    states, last = triton_forward(arguments)
    return states, last, triton_backward(grad_states, grad_last, states, arguments)


def exact(arguments: Arguments, *grads: Tensor | None) -> Results:
    def double(value: Tensor | None) -> Any:
        return value.double() if value is not None and value.is_floating_point() else value

    arguments = Arguments(*map(double, arguments))
    states, last = fused_forward(arguments)
    return states, last, fused_backward(*map(double, grads), states, arguments)


def assert_near(got: Results, expected: Results) -> None:
    for name, one, other in zip(
        ("states", "last", *Gradients._fields), (*got[:2], *got[2]), (*expected[:2], *expected[2]), strict=True
    ):
        assert (one is None) == (other is None), name
        if one is not None and other is not None and other.numel():
            assert float((one - other).abs().max()) <= 5e-6 * max(float(other.abs().max()), 1e-30), name


@pytest.mark.parametrize("padded", [False, True], ids=["full", "padded"])
@pytest.mark.parametrize("K", [None, 1, 40])
@pytest.mark.parametrize(
    ("E", "B", "T", "M"), [(1, 1, 1, 1), (3, 17, 2, 16), (2, 33, 3, 50), (1, 5, 6, 100), (5, 3, 4, 17)]
)
def test_stacks_in_which_networks_differ_in_nonlinear_units(
    E: int, B: int, T: int, M: int, K: int | None, padded: bool
) -> None:
    arguments = networks(E, B, T, M, K, padded)
    grad_states, grad_last = torch.randn(E, B, T, M), torch.randn(E, B, M)
    for first in ((grad_states, grad_last), (grad_states, None), (None, grad_last), (None, None)):
        assert_near(run(arguments, *first), exact(arguments, *first))


def test_what_is_not_contiguous() -> None:
    arguments = networks(3, 5, 4, 17, 2, padded=True)
    grad_states, grad_last = torch.randn(3, 5, 4, 17), torch.randn(3, 5, 17)

    def turn(value: Any) -> Any:
        return torch.stack((value, value), dim=1)[:, 0] if value.ndim == 1 else value.mT.contiguous().mT

    turned = Arguments(*map(turn, arguments))
    assert not any(value.is_contiguous() for value in turned if value is not None)
    expected = run(arguments, grad_states, grad_last)
    assert_near(run(turned, turn(grad_states), turn(grad_last)), expected)
    # one tensor for all networks, and a gradient that is one number, as of a sum
    first = {name: getattr(arguments, name)[:1] for name in ("inputs", "W", "P")}
    shared = arguments._replace(**{name: value.expand(3, *value.shape[1:]) for name, value in first.items()})
    shared = shared._replace(lengths=None)
    one = torch.ones(()).expand(3, 5, 4, 17)
    assert_near(run(shared, one, None), exact(shared, one, None))


def test_nan_stays_in_its_sequence_and_padding_may_hold_anything() -> None:
    arguments = networks(1, 4, 5, 6, 2)
    arguments.inputs[0, 2, 3] = torch.nan
    states, last = triton_forward(arguments)
    assert states[0, 2, 3:].isnan().all()
    assert last[0, 2].isnan().all()
    assert not states[0, [0, 1, 3]].isnan().any()
    arguments.inputs[0, 3] = torch.inf
    padded = arguments._replace(lengths=torch.tensor([[5, 5, 3, 0]]))
    states, last, gradients = run(padded, torch.full((1, 4, 5, 6), torch.nan).where(states.isnan(), 1.0), None)
    assert all(value is None or not value.isnan().any() for value in (states, last, *gradients))
    assert torch.equal(last[0, 3], arguments.state[0, 3])


def test_no_sequence_and_no_step() -> None:
    arguments = networks(2, 0, 3, 5, 3)
    first = torch.randn(2, 0, 3, 5), torch.randn(2, 0, 5)
    assert_near(run(arguments, *first), exact(arguments, *first))
    arguments = networks(2, 3, 0, 5, 3)
    grad_last = torch.randn(2, 3, 5)
    states, last, gradients = run(arguments, None, grad_last)
    assert states.shape == (2, 3, 0, 5)
    assert torch.equal(last, arguments.state)
    assert torch.equal(gradients.state, grad_last)
    assert not any(value.any() for value in (gradients.A, gradients.W, gradients.h))


def test_compiled_ahead_of_time_for_two_generations_of_gpus(tmp_path: Path) -> None:
    environment = os.environ | {"TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    script = Path(__file__).with_name("compile_kernels.py")
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert len(rows) == 8
    for row in rows:
        assert row["shared"] <= 99 << 10, row  # what a program can have on the smallest of these GPUs
        assert row["reg"] * 32 * row["warps"] <= 65_536, row  # the registers of a multiprocessor
        assert row["stack"] <= 32, row  # bytes a thread: what did not fit into registers
        assert row["inexact"] == [], row  # neither TF32 nor sums in an order of their own
    small = [row for row in rows if "M=50 " in row["name"]]
    assert all(3 * row["reg"] * 32 * row["warps"] <= 65_536 for row in small), small  # three programs at a time
