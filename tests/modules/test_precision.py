"""Mixed and double precision, and compiled modules, train to what float32 trains to."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import tiny_runs
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from tiny_runs import MODULES, Sequences, build
from torch import Tensor

from lightning_alrnn.callbacks import ActiveUnits, FixedPoints, RegimeOccupancy

QUIET = tiny_runs.QUIET | {"devices": 1, "logger": False, "enable_checkpointing": False, "num_sanity_val_steps": 0}


class Keep(Callback):
    """Keeps the states of validation."""

    states: Tensor

    def on_validation_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *_: Any) -> None:
        self.states = outputs["states"]


def data(kind: str) -> Sequences:
    return Sequences(kind, (16, 7, 5), 4)


def train(module: Any, kind: str, epochs: int = 10, callbacks: tuple[Callback, ...] = (), **options: Any) -> Trainer:
    trainer = Trainer(max_epochs=epochs, callbacks=list(callbacks), **QUIET, **options)
    trainer.fit(module, data(kind))
    return trainer


def losses(trainer: Trainer) -> dict[str, float]:
    return {key: float(value) for key, value in trainer.callback_metrics.items() if key.endswith("loss")}


@cache
def losses_in_float32(kind: str) -> dict[str, float]:
    return losses(train(build(kind), kind))


@pytest.mark.filterwarnings("ignore:You passed .*AMP with fp16 is not supported on CPU:UserWarning")
@pytest.mark.parametrize(
    ("kind", "precision", "dtype", "tolerance"),
    [
        # encoder, readout and loss are what bfloat16 rounds, to 3 digits
        *((kind, "bf16-mixed", torch.float32, 3e-3) for kind in MODULES),
        *((kind, "64-true", torch.float64, 1e-5) for kind in MODULES),
        ("sequence", "16-mixed", torch.float32, 3e-3),  # on the CPU Lightning takes bfloat16 and says so
    ],
)
def test_training_ends_where_float32_does(kind: str, precision: Any, dtype: torch.dtype, tolerance: float) -> None:
    module = build(kind)
    networks = ("encoder", "decoder") if kind == "seq2seq" else (None,)
    looks = [
        look(every_n_epochs=10, figure_every_n_epochs=0, module=name)  # at the end
        for name in networks
        for look in (RegimeOccupancy, ActiveUnits, FixedPoints)
    ]
    trainer = train(module, kind, callbacks=tuple(looks), precision=precision)
    assert losses(trainer) == pytest.approx(losses_in_float32(kind), rel=tolerance)
    assert {parameter.dtype for parameter in module.parameters()} == {dtype}
    start = build(kind).state_dict()
    assert not any(
        torch.equal(value, start[name].to(value)) for name, value in module.state_dict().items() if "W" in name
    )


def test_the_recurrence_runs_in_float32_whatever_is_mixed() -> None:
    states = {}
    for precision in ("32-true", "bf16-mixed"):
        keep = Keep()
        Trainer(callbacks=[keep], precision=precision, **QUIET).validate(  # type: ignore[arg-type]
            build("sequence"), data("sequence"), verbose=False
        )
        states[precision] = keep.states
    assert states["bf16-mixed"].dtype == torch.float32
    assert torch.equal(states["bf16-mixed"], states["32-true"])


@pytest.mark.filterwarnings("ignore")  # the compiler uses what torch itself has deprecated
@pytest.mark.parametrize(
    ("kind", "backend"),
    [
        ("sequence", "eager"),
        *(pytest.param(kind, "inductor", marks=pytest.mark.slow) for kind in MODULES),
    ],
)
def test_a_compiled_module_trains_to_the_same_weights(kind: str, backend: str) -> None:
    expected, module = build(kind), build(kind)
    metrics = losses(train(expected, kind, epochs=2))
    assert losses(train(torch.compile(module, backend=backend), kind, epochs=2)) == pytest.approx(metrics, rel=1e-5)
    for name, value in expected.state_dict().items():
        torch.testing.assert_close(module.state_dict()[name], value, rtol=0, atol=1e-5, msg=name)
