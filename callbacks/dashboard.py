"""TensorBoard's tabs beyond the curves, and the summary of a run on the terminal."""

from __future__ import annotations

import math
import shlex
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.trainer.states import TrainerFn
from torch.optim import Optimizer
from torch.utils.tensorboard.summary import hparams

from lightning_alrnn.analysis.tracking import STABILITIES
from lightning_alrnn.callbacks.base import alrnns_of, further_readings
from lightning_alrnn.callbacks.traces import TraceFigures
from lightning_alrnn.callbacks.unit_ablation import Ablatable
from lightning_alrnn.readings import READINGS, chart_layout
from lightning_alrnn.readings.yardstick import baselines_of, compare
from lightning_alrnn.scores import SCORES


class Dashboard(Callback):
    """Fills TensorBoard's tabs, and ends ``fit`` with a summary on the terminal.

    In TensorBoard, *Custom Scalars* groups the curves; *Text* has a card of the model (equation with its sizes, number
    of parameters, regularisation, optimizer, data, command, versions); *HPARAMS* has the hyperparameters and the last
    value of each metric. The summary shows the score, the regimes, units and fixed points of the last validation, the
    paths of the log, the checkpoints and the figures, and the command that analyses the network.

    Each validation logs ``baseline/<metric>/<name>``, the scores of predictors without a network, if the DataModule has
    them. The summary compares the network with them and says first if it is no better than the best one. If there are
    targets at every step, the figure ``val/traces`` shows targets and outputs of single trials over time, every 25
    epochs and at the end.

    Args:
        summary: Whether to log the baselines, and to write HPARAMS and the summary at the end of ``fit``. ``alrnn
            sweep`` writes its own summary, without baselines.
    """

    def __init__(self, summary: bool = True) -> None:
        self.summary = summary
        self._traces = TraceFigures()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._laid_out = False
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        for logger in _tensorboards(trainer):
            card = model_card(pl_module, data, trainer.optimizers, trainer, sys.argv)
            logger.experiment.add_text("model card", card, trainer.global_step)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._traces.on_validation_epoch_start(trainer, pl_module)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._traces.on_validation_batch_end(trainer, pl_module, outputs, batch, batch_idx, dataloader_idx)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._traces.on_train_end(trainer, pl_module)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._traces.on_validation_epoch_end(trainer, pl_module)
        if not self.summary or trainer.sanity_checking or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        scores = {
            f"baseline/{metric}/{name.replace(' ', '_')}": value
            for name, values in baselines_of(trainer.datamodule, "val").items()  # type: ignore[attr-defined]
            for metric, value in values.items()
        }
        # as PeriodicCallback.report: one copy to the device, and every process knows the keys
        scalars = torch.tensor(list(scores.values()), dtype=torch.float32, device=pl_module.device).unbind()
        for key, scalar in zip(scores, scalars, strict=True):
            pl_module.log(key, scalar, on_step=False, on_epoch=True, sync_dist=True)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking or trainer.state.fn != TrainerFn.FITTING or self._laid_out:
            return
        self._laid_out = True  # all keys are logged by now
        keys = [*trainer.callback_metrics, *(f"train/{name}" for name in ("loss", "task_loss"))]
        charts = chart_layout([*READINGS, *further_readings(trainer.callbacks)], keys)  # type: ignore[attr-defined]
        for logger in _tensorboards(trainer):
            logger.experiment.add_custom_scalars(charts)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        directory = trainer.log_dir  # a broadcast: every process takes part
        if not self.summary or trainer.fast_dev_run or not trainer.is_global_zero:  # type: ignore[attr-defined]
            return
        metrics = {key: float(value) for key, value in trainer.callback_metrics.items()}
        for logger in _tensorboards(trainer):
            # the logger's own log_hyperparams would write each metric once more, at step 0
            writer: Any = logger.experiment
            _, start, end = hparams(_hyperparameters(trainer, pl_module), metrics)  # type: ignore[no-untyped-call]
            for summary in (start, end):  # without the first, TensorBoard finds out itself which ones differ
                writer.file_writer.add_summary(summary)
            writer.flush()
        summary_text = run_summary(trainer, metrics, directory)
        if summary_text:
            sys.stdout.write(f"\n{summary_text}\n")


def model_card(
    pl_module: LightningModule, data: Any, optimizers: Sequence[Optimizer], trainer: Trainer, command: Sequence[str]
) -> str:
    """The model, the data, the options, the versions and the command, in Markdown."""
    rows: list[tuple[str, str]] = []
    for path, rnn in alrnns_of(pl_module).items():
        width = rnn.hidden_size if rnn.input_size is None else rnn.input_size
        rows.append((path or "network", f"M = {rnn.hidden_size}, P = {rnn.nonlinear_units}, K = {width}"))
    count = sum(parameter.numel() for parameter in pl_module.parameters())
    rows.append(("parameters", f"{count:,}"))
    strength = getattr(pl_module, "mar_strength", None)
    if strength is not None:
        rows.append(("regularisation", f"τ = {strength:g}, M_reg = {getattr(pl_module, 'mar_units', None)}"))
    for optimizer in optimizers:
        rates = sorted({group["lr"] for group in optimizer.param_groups})
        rows.append(("optimizer", f"{type(optimizer).__name__}, lr {', '.join(f'{rate:g}' for rate in rates)}"))
    if data is not None:
        options = [f"{name}={value}" for name, value in sorted(_public(data.hparams).items()) if value is not None]
        rows.append(("data", f"{type(data).__name__}({', '.join(options)})"))
    rows.append(("precision, devices", f"{trainer.precision}, {trainer.world_size}"))
    rows.append(("command", f"`{_typed(command)}`"))
    rows.append(("versions", _versions()))
    equation = "z_t = A z_{t−1} + W φ\\*(z_{t−1}) + C s_t + h, φ\\* a ReLU on the last P of M units"
    head = f"**{type(pl_module).__name__}**" + (f": {equation}" if alrnns_of(pl_module) else "")
    return "\n".join([head, "", *(f"- **{name}**: {value}" for name, value in rows)]) + "\n"


def run_summary(trainer: Trainer, metrics: dict[str, float], directory: str | None) -> str:
    """The results of a run and the paths of its files, in lines of a name and a value.

    If the network is no better than a baseline, a sentence that says so comes first.
    """
    rows: list[tuple[str, str]] = []
    comparison = compare(metrics, baselines_of(trainer.datamodule, "val"), "val")  # type: ignore[attr-defined]
    for score in SCORES:
        if f"val/{score}" in metrics:
            best = Path(getattr(trainer.checkpoint_callback, "best_model_path", "") or "").stem
            rows.append((f"val/{score}", f"{metrics[f'val/{score}']:.4g}" + (f" (best: {best})" if best else "")))
            break
    if comparison is not None:
        rows.append(("baselines", comparison.row()))
    for key in sorted(metrics):
        if key.endswith("regime/visited"):
            rows += _network_rows(key.removesuffix("regime/visited"), metrics)
    if trainer.loggers and directory is not None:
        rows.append(("log", directory))
        if (Path(directory) / "figures").is_dir():
            rows.append(("figures", str(Path(directory) / "figures")))
    checkpoint = _checkpoint(trainer)
    if checkpoint is not None:
        rows.append(("checkpoint", str(checkpoint)))
        if isinstance(trainer.lightning_module, Ablatable) and alrnns_of(trainer.lightning_module):  # as analyze asks
            rows.append(("next", f"alrnn analyze --ckpt_path {shlex.quote(str(checkpoint))}"))
    width = max((len(name) for name, _ in rows), default=0)
    lines = [f"{name:<{width}}  {value}" for name, value in rows]
    if comparison is not None and comparison.warning:
        lines.insert(0, comparison.warning)
    return "\n".join(lines)


def _network_rows(prefix: str, metrics: dict[str, float]) -> list[tuple[str, str]]:
    values = {key.removeprefix(prefix): value for key, value in metrics.items() if key.startswith(prefix)}
    units, effective = (values.get(f"regime/{name}", math.nan) for name in ("possible_log2", "effective"))
    rows = [("regimes", f"{values['regime/visited']:.0f} of 2^{units:.0f}, effectively {effective:.1f}")]
    if "units/active" in values:
        rows.append(("active units", f"{values['units/active']:.0f} of {units:.0f}"))
    total = values.get("fixed_points/total", math.nan)
    if math.isfinite(total):
        counts = {kind: values.get(f"fixed_points/{kind}", 0.0) for kind in STABILITIES}
        kinds = ", ".join(f"{count:.0f} {kind}" for kind, count in counts.items() if count)
        more = "" if values.get("fixed_points/complete") else "; there may be more"
        rows.append(("fixed points", f"{total:.0f}" + (f" ({kinds}{more})" if kinds else "")))
    return [(f"{prefix}{name}", text) for name, text in rows]


@cache
def _versions() -> str:
    return ", ".join(f"{name} {version(name)}" for name in ("lightning-alrnn", "torch", "pytorch-lightning"))


def _typed(command: Sequence[str]) -> str:
    """The command as it was typed: the command line replaces the names of shipped configurations by paths."""
    program = Path(command[0]).name
    shipped = Path(str(resources.files("lightning_alrnn.configs")))
    typed = []
    for argument in command[1:]:
        flag, separator, value = argument.rpartition("=")
        if Path(value).is_relative_to(shipped):
            value = Path(value).relative_to(shipped).with_suffix("").as_posix()
        typed.append(flag + separator + value)
    is_package = program in ("__main__.py", "_submit.py")  # `python -m lightning_alrnn`, and a run of a sweep
    return shlex.join(["alrnn" if is_package else program, *typed])


def _checkpoint(trainer: Trainer) -> Path | None:
    """The best checkpoint, or the last one if none is the best."""
    paths = [
        getattr(callback, "best_model_path", "") or getattr(callback, "last_model_path", "")
        for callback in trainer.checkpoint_callbacks
    ]
    paths.sort(key=lambda path: not Path(path).name.startswith("best"))
    return next((Path(path) for path in paths if path), None)


def _tensorboards(trainer: Trainer) -> list[TensorBoardLogger]:
    if not trainer.is_global_zero or trainer.fast_dev_run:  # type: ignore[attr-defined]
        return []
    return [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]


def _hyperparameters(trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
    """The hyperparameters of model and data that are plain values."""
    data: Any = trainer.datamodule  # type: ignore[attr-defined]
    values = _public(pl_module.hparams)
    if data is not None:
        values |= {f"data/{name}": value for name, value in _public(data.hparams).items()}
    return {name: value for name, value in values.items() if isinstance(value, bool | int | float | str)}


def _public(hyperparameters: Mapping[str, Any]) -> dict[str, Any]:
    """Hyperparameters without the entries of LightningCLI."""
    return {name: value for name, value in hyperparameters.items() if not name.startswith("_")}
