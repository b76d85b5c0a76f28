r"""A reading of your own: how often are all nonlinear units off, so that the linear units run alone?

    PYTHONPATH=examples alrnn fit --config addition_quick \\
        --trainer.callbacks+=ReadingCallback --trainer.callbacks.reading=own_reading.Silence

logs `silence/share` in every epoch, draws `silence/units_on`, and adds a chart to TensorBoard, a section to the report
of `alrnn analyze`, and medians to the verdict of a sweep.

    python examples/own_reading.py
"""

from __future__ import annotations

import logging
import warnings

import torch
from matplotlib.figure import Figure
from pytorch_lightning import Trainer, seed_everything
from torch import Tensor

from lightning_alrnn import Addition, ALRNNModule
from lightning_alrnn.callbacks import ReadingCallback
from lightning_alrnn.readings import Chart, Evidence, Key, Reading


# --8<-- [start:reading]
class Silence(Reading):
    """The share of steps in which all nonlinear units are off."""

    title = "silence"
    keys = (
        Key(
            "silence/share",
            "share",
            "share of steps in which no nonlinear unit is on; 1 where P=0",
            "That the nonlinear units matter little: a single step may decide",
        ),
    )
    charts = (Chart("share of steps", ("silence/share",)),)
    needs = ("regimes",)
    by_size = ("silence/share",)

    def measure(self, evidence: Evidence) -> Tensor:
        """The share of steps in which 0, 1, … P nonlinear units are on."""
        regimes = evidence.regimes()
        counts = torch.zeros(evidence.rnn.nonlinear_units + 1, dtype=torch.float64)
        counts.index_add_(0, regimes.codes.sum(dim=1), regimes.counts.double())
        return counts / counts.sum()

    def values(self, result: Tensor) -> dict[str, float]:
        return {"silence/share": float(result[0])}

    def figures(self, result: Tensor) -> dict[str, Figure]:
        figure = Figure(figsize=(4.0, 2.6), layout="constrained")
        axes = figure.subplots()
        axes.bar(range(len(result)), result.numpy())
        axes.set(xlabel="nonlinear units that are on", ylabel="share of steps")
        return {"silence/units_on": figure}


# --8<-- [end:reading]


def main(epochs: int = 20) -> dict[str, float]:
    """Fit a network, and print the shares of steps."""
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    seed_everything(0)
    model = ALRNNModule(2, 1, hidden_size=10, nonlinear_units=3, objective="regression", init="near_identity")
    reading = ReadingCallback(Silence(), figure_every_n_epochs=0)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_model_summary": False}
    trainer = Trainer(max_epochs=epochs, callbacks=[reading], **quiet)
    trainer.fit(model, Addition(sequence_length=20, train_size=1000, val_size=200, test_size=200))
    for units, share in enumerate(reading.answer.tolist()):
        print(f"{units} units on  {share:.3f} of the steps")
    return {key: float(value) for key, value in trainer.callback_metrics.items()}


if __name__ == "__main__":
    main()
