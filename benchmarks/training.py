"""What a training step of the addition task costs: alone, beside other ways to write it, and within ``Trainer.fit``.

``published form`` is a loop with a copy of the states at each step, a concatenation of all states at the end and the
regularisation unit by unit. ``nn.RNN(relu)`` has no regularisation. ``bare step`` is ALRNNModule's forward, loss,
regularisation, backward and Adam; ``Trainer.fit`` adds the loader, the metrics, gradient clipping, the callbacks that
the command line sets up and a TensorBoard log.
"""

from __future__ import annotations

import logging
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial

import torch
from common import arguments, cell, measure, save, summary
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor, nn

from lightning_alrnn import ALRNNModule, SequenceBatch
from lightning_alrnn.callbacks import ActiveUnits, FixedPoints, RegimeOccupancy
from lightning_alrnn.datamodules import Addition

BATCH, STEPS, HIDDEN, NONLINEAR = 128, 100, 50, 5
SIZE = 100 * BATCH


def published(batch: SequenceBatch) -> Callable[[], object]:
    """The recurrence as a loop over time with copies, and a penalty computed unit by unit."""
    parameters = {
        "A": torch.randn(HIDDEN) * 0.01,
        "W": torch.randn(HIDDEN, HIDDEN) * 0.01,
        "C": torch.randn(HIDDEN, 2) * 0.1,
        "h": torch.randn(HIDDEN) * 0.01,
        "D": torch.randn(1, HIDDEN) * 0.1,
    }
    A, W, C, h, D = (value.requires_grad_() for value in parameters.values())
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


def bare(batch: SequenceBatch, **adam: bool) -> Callable[[], object]:
    """The same with the parts of the package, without Lightning's loop."""
    model = ALRNNModule(2, 1, HIDDEN, NONLINEAR, objective="regression", optimizer=partial(torch.optim.Adam, **adam))
    optimizer = model.configure_optimizers()

    def step() -> None:
        elements, weight = model.task_loss(model(batch.inputs, batch.lengths).outputs, batch)
        loss = (elements * weight).sum() / weight.sum() + model.regularization()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


class Stopwatch(Callback):
    """Seconds of each training epoch, without the validation that follows it."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_train_epoch_start(self, trainer: Trainer, pl_module: object) -> None:
        self._start = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: object) -> None:
        self.seconds.append(time.perf_counter() - self._start)


def fit(epochs: int, folder: str) -> list[float]:
    """Milliseconds a step of each epoch of ``Trainer.fit``, the first one left out."""
    watch = Stopwatch()
    trainer = Trainer(
        max_epochs=epochs + 1,
        accelerator="cpu",
        logger=TensorBoardLogger(folder),
        callbacks=[RegimeOccupancy(), ActiveUnits(), FixedPoints(), watch],
        check_val_every_n_epoch=epochs + 2,  # validation has its own costs; it is not in a step
        num_sanity_val_steps=0,
        gradient_clip_val=1.0,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(
        ALRNNModule(2, 1, HIDDEN, NONLINEAR, objective="regression"),
        Addition(sequence_length=STEPS, train_size=SIZE, val_size=BATCH, test_size=1, batch_size=BATCH),
    )
    return [1e3 * seconds / (SIZE // BATCH) for seconds in watch.seconds[1:]]


def main() -> None:
    """Measure, print, write."""
    options = arguments(__doc__, repeats=60)
    warnings.filterwarnings("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    data, rows, columns = [], [], [""]
    for threads in options.threads:
        torch.set_num_threads(threads)
        torch.manual_seed(0)
        whole = Addition(sequence_length=STEPS, train_size=BATCH).build("train")
        steps = {
            "published form": published(whole),
            "nn.RNN(relu)": rnn(whole),
            "bare step": bare(whole),
            "bare step, fused Adam": bare(whole, fused=True),
        }
        found, fitted = {name: {"min": float("inf"), "median": float("inf")} for name in steps}, []
        for _ in range(3):  # interleaved with the Trainer's epochs
            again = measure(steps, options.repeats // 3)
            found = {name: again[name] if again[name]["min"] < found[name]["min"] else found[name] for name in steps}
            with tempfile.TemporaryDirectory() as folder:
                fitted += fit(4, folder)
        found["Trainer.fit"] = summary(fitted)
        step = found["bare step"]["min"]
        data.append({"threads": threads, "milliseconds": found})
        columns = ["threads", *found, "published / bare", "nn.RNN / bare", "Trainer.fit / bare"]
        ratios = [found[name]["min"] / step for name in ("published form", "nn.RNN(relu)", "Trainer.fit")]
        rows.append([str(threads), *map(cell, found.values()), *(f"{ratio:.2f}" for ratio in ratios)])
    text = (
        f"A training step of the addition task (B={BATCH}, T={STEPS}, M={HIDDEN}, P={NONLINEAR}) in milliseconds: "
        f"minimum (median) of {options.repeats} interleaved repeats, of 12 epochs of 100 steps for `Trainer.fit`."
    )
    save("training", text, columns, rows, data)


if __name__ == "__main__":
    main()
