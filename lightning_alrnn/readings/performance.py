"""How well does the network do?"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from lightning_alrnn.plotting.performance import plot_confusion, plot_values
from lightning_alrnn.readings.base import Chart, Reading, key_table
from lightning_alrnn.readings.text import number

if TYPE_CHECKING:
    from lightning_alrnn.report import Report


class Performance(Reading):
    """The loss and the scores that the LightningModules log."""

    title = "task"
    keys = key_table(
        """
        train/loss, val/loss | that of the task's loss | task loss plus regularisation, which training minimises | Not
            comparable between runs with different τ
        train/task_loss, val/task_loss | nats (cross-entropy), or the target's unit squared | loss of the task. The best
            checkpoint has the lowest `val/task_loss` | The loss in training is a mean over weights that change during
            the epoch
        train/regularization, val/regularization | 1 | τ times the [MAR
            penalty](theory.md#manifold-attractor-regularisation) | It is also 0 if τ is 0 or the core is not an AL-RNN
        val/accuracy | share | correct predictions (classification), or trials that meet the DataModule's `criterion`
            (regression) | If there is a target at every step, it counts steps, not sequences
        val/accuracy/<group> | share | the same for one group of trials; NaN for a group without a trial
        val/sequence_accuracy | share | sequences without a mistake, if there is a target at every step
        val/mse | the target's unit squared | mean squared error of a regression | A low value has a meaning only in
            comparison with `val/constant_mse`
        val/constant_mse | the target's unit squared | mean squared error of the best constant prediction for the same
            targets: their variance
        val/token_accuracy | share | tokens that are correct at their step (`ALRNNSeq2Seq`) | A sequence that is shifted
            by one token has few correct tokens
        """
    )
    charts = (
        Chart("loss", (r"^train/loss$", r"^val/loss$", r"^train/task_loss$", r"^val/task_loss$")),
        Chart(
            "score",
            (r"^val/accuracy$", r"^val/sequence_accuracy$", r"^val/mse$", r"^val/constant_mse$", r"^baseline/.+"),
        ),
        Chart("score by group", (r"^val/accuracy/.+",)),
    )
    place = 1
    callback = ""

    def section(self, report: Report) -> None:
        page, sequences, performance = report.page, report.sequences, report.performance
        targets, outputs = sequences.targets, sequences.outputs
        if performance.objective == "classification":
            largest = int(torch.bincount(targets, minlength=outputs.shape[1]).max())
            constant = f"the most frequent answer would be right in {largest / len(targets):.1%} of"
            names = performance.class_names or [str(index) for index in range(outputs.shape[1])]
            figure = plot_confusion(outputs.argmax(dim=1), targets, names)
            caption = "True and predicted classes, at the last step of the sequences."
        else:
            variance = targets.double().var(dim=0, correction=0)
            constant = f"the mean of the targets would have a mean squared error of {float(variance.mean()):.3g} on"
            output = int(variance.argmax())
            figure = plot_values(outputs[:, output], targets[:, output])
            of_output = f", for output {output}, whose target varies most" if targets.shape[1] > 1 else ""
            caption = f"Answer and target at the last step of each sequence{of_output}."
        page.section("How well does it do?")
        page.text(
            f"{_headline(performance.metrics)} Always giving {constant} the {len(targets)} sequences that are looked "
            "at here.",
            answer=True,
        )
        report.figure("performance", figure, caption)
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
