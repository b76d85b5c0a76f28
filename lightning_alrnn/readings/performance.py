"""How well does the network do?"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from lightning_alrnn.plotting.performance import plot_confusion, plot_values
from lightning_alrnn.readings.base import Chart, Key, Reading
from lightning_alrnn.readings.text import number

if TYPE_CHECKING:
    from lightning_alrnn.report import Report


class Performance(Reading):
    """The loss and the scores, which the LightningModules log by themselves."""

    title = "task"
    keys = (
        Key(
            "train/loss",
            "that of the task's loss",
            "task loss plus regularisation: what is minimised",
            "Runs of different τ cannot be compared by it",
        ),
        Key(
            "val/loss",
            "that of the task's loss",
            "task loss plus regularisation: what is minimised",
            "Runs of different τ cannot be compared by it",
        ),
        Key(
            "train/task_loss",
            "nats (cross-entropy), or the target's unit squared",
            "the task's own loss. The best checkpoint is that of the lowest `val/task_loss`",
            "That of training is a mean over weights that change in the course of the epoch",
        ),
        Key(
            "val/task_loss",
            "nats (cross-entropy), or the target's unit squared",
            "the task's own loss. The best checkpoint is that of the lowest `val/task_loss`",
            "That of training is a mean over weights that change in the course of the epoch",
        ),
        Key(
            "train/regularization",
            "1",
            "τ times the [MAR penalty](theory.md#manifold-attractor-regularisation)",
            "0 also where τ is 0 or the core is no AL-RNN",
        ),
        Key(
            "val/regularization",
            "1",
            "τ times the [MAR penalty](theory.md#manifold-attractor-regularisation)",
            "0 also where τ is 0 or the core is no AL-RNN",
        ),
        Key(
            "val/accuracy",
            "share",
            "right predictions (classification), or correct trials by the DataModule's `criterion` (regression)",
            "With a target at every step it counts steps, not sequences",
        ),
        Key("val/accuracy/<group>", "share", "the same for one group of trials; NaN for a group without a trial"),
        Key("val/sequence_accuracy", "share", "sequences without a mistake, where there is a target at every step"),
        Key(
            "val/mse",
            "the target's unit squared",
            "mean squared error of a regression",
            "Low beside `val/constant_mse` is what counts, not low by itself",
        ),
        Key(
            "val/constant_mse",
            "the target's unit squared",
            "mean squared error of the best constant prediction for the same targets: their variance",
        ),
        Key(
            "val/token_accuracy",
            "share",
            "tokens right at their step (`ALRNNSeq2Seq`)",
            "A sequence shifted by one token has few of them right",
        ),
    )
    charts = (
        Chart("loss", (r"^train/loss$", r"^val/loss$", r"^train/task_loss$", r"^val/task_loss$")),
        Chart("score", (r"^val/accuracy$", r"^val/sequence_accuracy$", r"^val/mse$", r"^val/constant_mse$")),
        Chart("score by group", (r"^val/accuracy/.+",)),
    )

    def section(self, report: Report) -> None:
        page, sequences, performance = report.page, report.sequences, report.performance
        page.section("How well does it do?")
        targets, outputs = sequences.targets, sequences.outputs
        if performance.objective == "classification":
            counts = torch.bincount(targets, minlength=outputs.shape[1])
            page.text(
                f"{_headline(performance.metrics)} Always giving the most frequent answer would be right in "
                f"{float(counts.max()) / len(targets):.1%} of the {len(targets)} sequences that are looked at here.",
                answer=True,
            )
            names = performance.class_names or [str(index) for index in range(outputs.shape[1])]
            figure = plot_confusion(outputs.argmax(dim=1), targets, names)
            report.figure("performance", figure, "What each class was taken for, at the last step of the sequences.")
        else:
            spread = float(targets.double().var(dim=0, correction=0).mean())
            page.text(
                f"{_headline(performance.metrics)} Always giving the mean of the targets would have a mean squared "
                f"error of {spread:.3g} on the {len(targets)} sequences that are looked at here.",
                answer=True,
            )
            first = int(targets.double().var(dim=0, correction=0).argmax())
            caption = "Answer and target at the last step of each sequence"
            if targets.shape[1] > 1:
                caption += f", for output {first}, whose target varies most"
            report.figure("performance", plot_values(outputs[:, first], targets[:, first]), f"{caption}.")
        rows = [(name, number(value)) for name, value in performance.metrics.items()]
        page.table(("metric", "value"), rows, "All metrics of the test, over the whole test split.")


def _headline(metrics: dict[str, float]) -> str:
    for key, text in (
        ("test/sequence_accuracy", "{:.1%} of the sequences are right at every step."),
        ("test/accuracy", "{:.1%} are right."),
        ("test/mse", "The mean squared error is {:.3g}."),
    ):
        if key in metrics and math.isfinite(metrics[key]):
            return text.format(metrics[key])
    return "The test logged no score."
