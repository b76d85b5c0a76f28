"""Measure what the callbacks cost: their scalars in an epoch of the addition task, and their figures.

An epoch is 100 training batches of 128 sequences (T=100, M=50) and a validation of 1000, in ``Trainer.fit``.
"default" is RegimeOccupancy, ActiveUnits and FixedPoints; "all" adds Spectrum and LatentTrajectories, which share the
counts and moments of the states. The share is the time within the callbacks' hooks, of the epoch without them: epochs
differ by more than the callbacks cost. A figure is drawn and encoded as PNG, in the network that was trained.
"""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from common import arguments, cell, measure, run_on_one_thread, save, summary
from pytorch_lightning import Callback, Trainer

from lightning_alrnn import ALRNNModule
from lightning_alrnn.callbacks import (
    ActiveUnits,
    FixedPoints,
    LatentTrajectories,
    RegimeOccupancy,
    Spectrum,
    UnitAblation,
)
from lightning_alrnn.callbacks.base import PeriodicCallback
from lightning_alrnn.datamodules import Addition
from lightning_alrnn.plotting.style import encode_png, render

BATCH, STEPS, HIDDEN, BATCHES = 128, 100, 50, 100
_HOOKS = ("on_validation_epoch_start", "on_validation_batch_end", "on_validation_epoch_end")
SETS: dict[str, tuple[type[PeriodicCallback], ...]] = {
    "none": (),
    "default": (RegimeOccupancy, ActiveUnits, FixedPoints),
    "all": (RegimeOccupancy, ActiveUnits, FixedPoints, Spectrum, LatentTrajectories),
}


class Epochs(Callback):
    """Milliseconds of each epoch, with its validation, and of the callbacks' hooks in it."""

    def __init__(self) -> None:
        self.epochs: list[float] = []
        self.hooks: list[float] = []
        self.spent = 0.0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: object) -> None:
        self._start, self.spent = time.perf_counter(), 0.0

    def on_train_epoch_end(self, trainer: Trainer, pl_module: object) -> None:
        self.epochs.append(1e3 * (time.perf_counter() - self._start))
        self.hooks.append(1e3 * self.spent)

    def watch(self, callback: Callback) -> None:
        """Add up the time within the hooks of a callback."""
        for name in _HOOKS:
            setattr(callback, name, partial(self._run, getattr(callback, name)))

    def _run(self, hook: Callable[..., None], *args: Any, **kwargs: Any) -> None:
        start = time.perf_counter()
        hook(*args, **kwargs)
        self.spent += time.perf_counter() - start


def fit(nonlinear: int, kinds: tuple[type[PeriodicCallback], ...], epochs: int) -> tuple[Epochs, list[Any], Trainer]:
    """Train for some epochs, after one that warms up."""
    watch, callbacks = Epochs(), [kind(figure_every_n_epochs=0) for kind in kinds]
    for callback in callbacks:
        watch.watch(callback)
    quiet: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    options: dict[str, Any] = {"num_sanity_val_steps": 0, "gradient_clip_val": 1.0, "enable_checkpointing": False}
    trainer = Trainer(max_epochs=epochs + 1, accelerator="cpu", callbacks=[*callbacks, watch], **options, **quiet)
    torch.manual_seed(0)
    trainer.fit(
        ALRNNModule(2, 1, HIDDEN, nonlinear, objective="regression", optimizer=partial(torch.optim.Adam, lr=3e-3)),
        Addition(sequence_length=STEPS, train_size=BATCHES * BATCH, val_size=1000, test_size=1, batch_size=BATCH),
    )
    return watch, callbacks, trainer


def draw(callback: PeriodicCallback) -> None:
    """Draw and encode all figures of a callback."""
    for figure in callback.figures().values():
        encode_png(render(figure))


def main() -> None:
    """Measure, print, write."""
    options = arguments(__doc__, repeats=3)
    run_on_one_thread()
    warnings.filterwarnings("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    data: list[dict[str, Any]] = []
    rows: list[list[str]] = []

    def note(nonlinear: int, part: str, name: str, times: Any, share: float, cells: Sequence[str] = ("", "")) -> None:
        spent = times.get("callbacks", times)
        data.append({"P": nonlinear, "what": name, "milliseconds": times, "share": share})
        label = "UnitAblation" if name == "ablation" else name
        rows.append([f"{part}, {label}", str(nonlinear), *cells, cell(spent), f"{share:.1%}"])

    for nonlinear in (5, 50):
        epochs: dict[str, list[float]] = {name: [] for name in SETS}
        hooks: dict[str, list[float]] = {name: [] for name in SETS}
        for name, kinds in [*SETS.items()] * options.repeats:
            watch, *_ = fit(nonlinear, kinds, epochs=3)
            epochs[name] += watch.epochs[1:]
            hooks[name] += watch.hooks[1:]
        plain = summary(epochs["none"])
        for name in list(SETS)[1:]:
            times = {"epoch": summary(epochs[name]), "callbacks": summary(hooks[name]), "without": plain}
            share = times["callbacks"]["median"] / plain["median"]
            note(nonlinear, "scalars", name, times, share, (cell(plain), cell(times["epoch"])))
        ablation = summary([fit(nonlinear, (UnitAblation,), epochs=1)[0].hooks[-1] for _ in range(options.repeats)])
        note(nonlinear, "scalars", "ablation", ablation, ablation["median"] / plain["median"] / 10)  # every ten epochs
        _, callbacks, trainer = fit(nonlinear, (*SETS["all"], UnitAblation), epochs=1)
        defaults = {type(callback).__name__: type(callback)().figure_every_n_epochs for callback in callbacks}
        for callback in callbacks:  # what a figure needs is kept only where there are figures
            callback.figure_every_n_epochs = 10
        trainer.validate(trainer.lightning_module, trainer.datamodule, verbose=False)  # type: ignore[attr-defined]
        figures = measure({type(callback).__name__: partial(draw, callback) for callback in callbacks}, 5)
        for name, value in figures.items():
            note(nonlinear, "figures", name, value, value["median"] / (1e3 * defaults[name]))
    text = (
        f"Callbacks in milliseconds, minimum (median): scalars in an epoch of the addition task (B={BATCH}, T={STEPS}, "
        f"M={HIDDEN}, {BATCHES} batches and 1000 sequences of validation), share of the epoch without them (of ten for "
        "UnitAblation); all figures of a callback, share of the epochs of a second each between two of them by default."
    )
    save("callbacks", text, ["what", "P", "epoch without", "epoch with", "callbacks", "share"], rows, data)


if __name__ == "__main__":
    main()
