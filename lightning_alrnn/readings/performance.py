"""How well does the network do?"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lightning_alrnn.plotting.performance import plot_confusion, plot_values
from lightning_alrnn.plotting.traces import plot_traces
from lightning_alrnn.readings.base import Chart, Reading, key_table
from lightning_alrnn.readings.text import number

if TYPE_CHECKING:
    from lightning_alrnn.report import Report, Traces


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
        page, sequences, performance, traces = report.page, report.sequences, report.performance, report.traces
        targets, outputs, where = sequences.targets, sequences.outputs, "at the last step of each sequence"
        if traces is not None:
            targets, outputs = traces.targets[traces.counted], traces.outputs[traces.counted]
            where = "at all steps that count"
        page.section("How well does it do?")
        page.text(_answer(report), answer=True)
        if performance.objective == "classification":
            names = performance.class_names or [str(index) for index in range(outputs.shape[1])]
            figure = plot_confusion(outputs.argmax(dim=1), targets, names, _title(report))
            caption = f"True and predicted classes {where}."
        else:
            figure = plot_values(outputs, targets, _output_names(report), _title(report))
            caption = f"Answer and target {where}{_some(outputs.shape[1])}."
        whole = "" if report.comparison is None else " The numbers of the title are those of the whole test split."
        report.figure("performance", figure, f"{caption}{whole}")
        if traces is not None:
            self._traces(report, traces)
        rows = [(name, number(value)) for name, value in performance.metrics.items()]
        for name, scores in (performance.baselines or {}).items():
            rows += [(f"{metric} of the baseline: {name}", number(value)) for metric, value in scores.items()]
        page.table(("metric", "value"), rows, "All metrics of the test, over the whole test split.")

    def _traces(self, report: Report, traces: Traces) -> None:
        labels, names, kind = report.conditions or (None, None, "")
        if not traces.targets.is_floating_point() and kind == "class":
            labels = names = None  # the class changes from step to step
        of_classes = report.performance.objective == "classification"
        channels = report.performance.class_names if of_classes else _output_names(report)
        figure = plot_traces(*traces, labels, names, channels)
        by = "" if labels is None else ", for each condition"
        report.figure("traces", figure, f"Targets and outputs over time in single trials{by}.")


def _answer(report: Report) -> str:
    """The scores of the network and of the baselines, in sentences."""
    metrics, comparison = report.performance.metrics, report.comparison
    if comparison is None:
        return _headline(metrics)
    shares = {
        "test/sequence_accuracy": "{:.1%} of the sequences are right at every step.",
        **({"test/accuracy": "{:.1%} of the trials are right."} if comparison.metric != "accuracy" else {}),
    }
    texts = [text.format(metrics[key]) for key, text in shares.items() if math.isfinite(metrics.get(key, math.nan))]
    return " ".join([*texts, comparison.sentence()])


def _title(report: Report) -> str | None:
    """The numbers of :func:`_answer` as the title of a figure."""
    comparison = report.comparison
    if comparison is None:
        return None
    if comparison.metric == "accuracy":
        return f"{comparison.value:.1%} right"
    names = {"mean": "always the mean"}
    others = [f"{names.get(name, name)} {score:.3g}" for name, score in comparison.baselines.items()]
    return ", ".join([f"mean squared error {comparison.value:.3g}", *others])


def _output_names(report: Report) -> list[str] | None:
    names = report.performance.output_names
    return names if names is not None and len(names) == report.sequences.outputs.shape[1] else None


def _some(outputs: int) -> str:
    return f", for the three of {outputs} outputs whose targets vary most" if outputs > 3 else ""


def _headline(metrics: dict[str, float]) -> str:
    for key, text in (
        ("test/sequence_accuracy", "{:.1%} of the sequences are right at every step."),
        ("test/accuracy", "{:.1%} are right."),
        ("test/mse", "The mean squared error is {:.3g}."),
    ):
        if key in metrics and math.isfinite(metrics[key]):
            return text.format(metrics[key])
    return "The test logged no score."
