"""Measure what training costs: alone, beside other ways to write it, and within ``Trainer.fit``.

Addition, a step: ``published form`` is a loop with a copy of the states at each step, a concatenation of all states at
the end and the regularisation unit by unit. ``nn.RNN(relu)`` has no regularisation. ``bare`` is ALRNNModule's
forward, loss, regularisation, backward and Adam; ``Trainer.fit`` adds the loader, the metrics, gradient clipping, the
callbacks that the command line sets up, checkpoints and a TensorBoard log, and has no validation.

Contextual integration, an epoch of ``configs/contextual_quick.yaml``, a network so small that all else shows: ``bare``
is as above, with gradient clipping; validation adds the forward pass and the loss to it. ``Trainer.fit`` adds the same
as above, and in validation the metrics, what the callbacks compute, their scalars and a checkpoint.
"""

from __future__ import annotations

import logging
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain
from typing import Any

import torch
from common import arguments, cell, measure, run_on_one_thread, save, summary
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor, nn

from lightning_alrnn import ALRNNModule, SequenceBatch
from lightning_alrnn.callbacks import ActiveUnits, FixedPoints, RegimeOccupancy
from lightning_alrnn.datamodules import Addition, ContextualIntegration, SequenceDataModule

BATCH, STEPS, HIDDEN, NONLINEAR = 128, 100, 50, 5
SIZE = 100 * BATCH


def published(batch: SequenceBatch) -> Callable[[], object]:
    """The recurrence as a loop over time with copies, and a penalty computed unit by unit."""
    shapes = ((0.01, HIDDEN), (0.01, HIDDEN, HIDDEN), (0.1, HIDDEN, 2), (0.01, HIDDEN), (0.1, 1, HIDDEN))
    A, W, C, h, D = ((torch.randn(*shape) * scale).requires_grad_() for scale, *shape in shapes)
    optimizer = torch.optim.Adam([A, W, C, h, D])

    def penalty() -> Tensor:
        total = torch.zeros(())
        for i in range(HIDDEN // 2):
            others = torch.cat((W[i, :i], W[i, i + 1 :]))
            total = total + (A[i] + W[i, i] - 1) ** 2 + (others**2).sum() + h[i] ** 2
        return total

    def step() -> None:
        z = torch.zeros(BATCH, HIDDEN)
        states = []
        for t in range(STEPS):
            phi = z.clone()
            phi[:, -NONLINEAR:] = torch.relu(z[:, -NONLINEAR:])
            z = A * z + phi @ W.t() + batch.inputs[:, t] @ C.t() + h
            states.append(z.unsqueeze(1))
        outputs = torch.cat(states, dim=1)[:, -1] @ D.t()
        loss = (outputs - batch.targets).square().mean() + 0.1 * penalty()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def rnn(batch: SequenceBatch) -> Callable[[], object]:
    """The same with torch's own layer."""
    layer, readout = nn.RNN(2, HIDDEN, nonlinearity="relu", batch_first=True), nn.Linear(HIDDEN, 1)
    optimizer = torch.optim.Adam([*layer.parameters(), *readout.parameters()])

    def step() -> None:
        loss = (readout(layer(batch.inputs)[0][:, -1]) - batch.targets).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def bare(
    model: ALRNNModule, batches: Sequence[SequenceBatch], validation: Sequence[SequenceBatch] = (), clip: float = 0.0
) -> Callable[[], object]:
    """The same with the parts of the package, without Lightning's loop: a step on each batch, then the validation."""
    optimizer = model.configure_optimizers()

    def task_loss(batch: SequenceBatch) -> Tensor:
        elements, weight = model.task_loss(model(batch.inputs, batch.lengths).outputs, batch)
        return (elements * weight).sum() / weight.sum()

    def run() -> None:
        for batch in batches:
            loss = task_loss(batch) + model.regularization()
            optimizer.zero_grad()
            loss.backward()
            if clip:
                nn.utils.clip_grad_norm_(model.parameters(), clip)
            optimizer.step()
        with torch.no_grad():
            for batch in validation:
                task_loss(batch)

    return run


class Stopwatch(Callback):
    """Milliseconds of the steps of each epoch, and from its start to that of the next, with all that is between."""

    def __init__(self) -> None:
        self.steps: list[float] = []
        self.epochs: list[float] = []
        self._start: float | None = None

    def on_train_epoch_start(self, trainer: Trainer, pl_module: object) -> None:
        now = time.perf_counter()
        if self._start is not None:
            self.epochs.append(1e3 * (now - self._start))
        self._start = now

    def on_validation_start(self, trainer: Trainer, pl_module: object) -> None:
        if self._start is not None:
            self.steps.append(1e3 * (time.perf_counter() - self._start))


def fit(model: ALRNNModule, data: SequenceDataModule, epochs: int, validation: bool) -> Stopwatch:
    """Measure each epoch of ``Trainer.fit``; the first two warm up."""
    watch = Stopwatch()
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            max_epochs=epochs + 3,
            accelerator="cpu",
            logger=TensorBoardLogger(folder),
            callbacks=[*(kind(figure_every_n_epochs=0) for kind in (RegimeOccupancy, ActiveUnits, FixedPoints)), watch],
            check_val_every_n_epoch=1 if validation else epochs + 4,
            num_sanity_val_steps=0,
            log_every_n_steps=10 if validation else 50,
            gradient_clip_val=1.0,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(model, data)
    watch.steps, watch.epochs = watch.steps[2:], watch.epochs[2:]
    return watch


def addition(repeats: int) -> Iterator[tuple[str, dict[str, dict[str, float]]]]:
    """Milliseconds of a step of the addition task."""

    def model(**adam: bool) -> ALRNNModule:
        return ALRNNModule(2, 1, HIDDEN, NONLINEAR, objective="regression", optimizer=partial(torch.optim.Adam, **adam))

    batch = Addition(sequence_length=STEPS, train_size=BATCH).build("train")
    runs = {
        "bare": bare(model(), [batch]),
        "bare, fused Adam": bare(model(fused=True), [batch]),
        "nn.RNN(relu)": rnn(batch),
        "published form": published(batch),
    }
    results, fitted = {}, []
    for _ in range(3):  # interleaved with the Trainer's epochs
        results = least(results, measure(runs, repeats // 3))
        data = Addition(sequence_length=STEPS, train_size=SIZE, val_size=BATCH, test_size=1, batch_size=BATCH)
        fitted += [milliseconds / (SIZE // BATCH) for milliseconds in fit(model(), data, 4, validation=False).epochs]
    yield "addition: a step", results | {"Trainer.fit": summary(fitted)}


def contextual(repeats: int) -> Iterator[tuple[str, dict[str, dict[str, float]]]]:
    """Milliseconds of an epoch of ``configs/contextual_quick.yaml``, without its validation and with it."""
    data = ContextualIntegration(variant="reference", batch_size=64)
    data.setup("fit")
    batches, validation = list(data.train_dataloader()), list(data.val_dataloader())

    def model() -> ALRNNModule:
        task: dict[str, Any] = {name: getattr(data, name) for name in ("objective", "target_step", "criterion")}
        adam = partial(torch.optim.Adam, lr=0.003)
        sizes = data.input_size, data.output_size, 10, 5
        return ALRNNModule(*sizes, init="near_identity", mar_strength=0.01, optimizer=adam, **task)

    steps, epoch = f"contextual_quick: {len(batches)} steps", "contextual_quick: these and the validation"
    runs = {steps: bare(model(), batches, clip=1.0), epoch: bare(model(), batches, validation, clip=1.0)}
    results: dict[str, dict[str, float]] = {}
    fitted: dict[str, list[float]] = {steps: [], epoch: []}
    for _ in range(3):
        results = least(results, measure(runs, repeats // 3))
        watch = fit(model(), data, repeats // 3, validation=True)
        fitted[steps] += watch.steps
        fitted[epoch] += watch.epochs
    for task, times in results.items():
        yield task, {"bare": times, "Trainer.fit": summary(fitted[task])}


def least(first: dict[str, dict[str, float]], second: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """Of two measurements of each run, the one with the smaller minimum."""
    return {name: min(first.get(name, times), times, key=lambda one: one["min"]) for name, times in second.items()}


def main() -> None:
    """Measure, print, write."""
    options = arguments(__doc__, repeats=60)
    run_on_one_thread()
    warnings.filterwarnings("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    data, rows = [], []
    for threads in options.threads:
        torch.set_num_threads(threads)
        torch.manual_seed(0)
        for task, results in chain(addition(options.repeats), contextual(options.repeats)):
            data.append({"threads": threads, "task": task, "milliseconds": results})
            for name, times in results.items():
                ratio = times["min"] / results["bare"]["min"]
                rows.append([task, str(threads), name, cell(times), f"{ratio:.2f}"])
    text = (
        f"Training in milliseconds: a step of the addition task (B={BATCH}, T={STEPS}, M={HIDDEN}, P={NONLINEAR}), and "
        "an epoch of `configs/contextual_quick.yaml` (B=64, T=100, M=10, P=5) with the default callbacks, without its "
        f"validation and with it. Minimum (median) of {options.repeats} interleaved repeats, of 12 epochs of 100 steps "
        "for `Trainer.fit` on addition."
    )
    save("training", text, ["task", "threads", "what", "milliseconds", "of bare"], rows, data)


if __name__ == "__main__":
    main()
