"""What TensorBoard shows of a run beyond its curves, and what the terminal says at its end."""

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

from lightning_utilities.core.rank_zero import rank_zero_only
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.trainer.states import TrainerFn
from torch.optim import Optimizer
from torch.utils.tensorboard.summary import hparams

from lightning_alrnn.callbacks.base import further_readings
from lightning_alrnn.callbacks.unit_ablation import Ablatable
from lightning_alrnn.nn.alrnn import ALRNN
from lightning_alrnn.readings import READINGS, chart_layout
from lightning_alrnn.scores import SCORES


class Dashboard(Callback):
    """Fills TensorBoard's tabs, and ends ``fit`` with a summary on the terminal.

    In TensorBoard: *Custom Scalars* groups the curves by task, regimes, units, fixed points and spectrum; *Text* has a
    card of the model (equation with its sizes, number of parameters, regularisation, optimizer, data, command,
    versions); *HPARAMS* has the hyper-parameters, those that differ among the runs first, with the last value of each
    metric. Nothing is logged anew.

    At the end of ``fit`` the terminal shows the score, the regimes, units and fixed points of the last validation,
    where the log, the checkpoints and the figures are, and the command that reads the network. All of it is written by
    the first process alone.

    Args:
        summary: whether to write HPARAMS and the summary at the end of ``fit``. ``alrnn sweep`` goes without: it writes
            its own, of what it varies.
    """

    _laid_out = False

    def __init__(self, summary: bool = True) -> None:
        self.summary = summary

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._laid_out = False
        for logger in _tensorboards(trainer):
            data: Any = trainer.datamodule  # type: ignore[attr-defined]
            card = model_card(pl_module, data, trainer.optimizers, trainer, sys.argv)
            logger.experiment.add_text("model card", card, trainer.global_step)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking or trainer.state.fn != TrainerFn.FITTING or self._laid_out:
            return
        self._laid_out = True  # by now it is known what is logged
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
        _write(run_summary(trainer, metrics, directory))


def model_card(
    pl_module: LightningModule, data: Any, optimizers: Sequence[Optimizer], trainer: Trainer, command: Sequence[str]
) -> str:
    """What was trained on what, in Markdown.

    Args:
        pl_module: The LightningModule that is trained.
        data: The DataModule, or ``None``.
        optimizers: The optimizers of the LightningModule.
        trainer: The Trainer, in ``fit``.
        command: The program and its arguments.

    Returns:
        A heading, and a list of sizes, options, versions and the command.
    """
    rows: list[tuple[str, str]] = []
    for path, rnn in _networks(pl_module):
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
        options = ", ".join(
            f"{name}={value}" for name, value in sorted(_own(data.hparams).items()) if value is not None
        )
        rows.append(("data", f"{type(data).__name__}({options})"))
    rows.append(("precision, devices", f"{trainer.precision}, {trainer.world_size}"))
    rows.append(("command", f"`{_typed(command)}`"))
    rows.append(("versions", _versions()))
    equation = "z_t = A z_{t−1} + W φ\\*(z_{t−1}) + C s_t + h, φ\\* a ReLU on the last P of M units"
    head = f"**{type(pl_module).__name__}**" + (f": {equation}" if _networks(pl_module) else "")
    return "\n".join([head, "", *(f"- **{name}**: {value}" for name, value in rows)]) + "\n"


def run_summary(trainer: Trainer, metrics: dict[str, float], directory: str | None) -> str:
    """What came out of a run, in lines for the terminal.

    Args:
        trainer: after ``fit``.
        metrics: the last value of each key.
        directory: of the log, or ``None``.

    Returns:
        Lines of a name and a value, in two columns.
    """
    rows: list[tuple[str, str]] = []
    for score in SCORES:
        if f"val/{score}" in metrics:
            best: Any = trainer.checkpoint_callback
            name = Path(getattr(best, "best_model_path", "") or "").stem
            rows.append((f"val/{score}", f"{metrics[f'val/{score}']:.4g}" + (f" (best: {name})" if name else "")))
            break
    for key in sorted(metrics):
        prefix, found, _ = key.rpartition("regime/visited")
        if found:
            rows += _network_rows(prefix, metrics)
    if trainer.loggers and directory is not None:
        rows.append(("log", directory))
        if (Path(directory) / "figures").is_dir():
            rows.append(("figures", str(Path(directory) / "figures")))
    checkpoint = _checkpoint(trainer)
    if checkpoint is not None:
        rows.append(("checkpoint", str(checkpoint)))
        if isinstance(trainer.lightning_module, Ablatable) and _networks(trainer.lightning_module):  # as analyze asks
            rows.append(("next", f"alrnn analyze --ckpt_path {shlex.quote(str(checkpoint))}"))
    width = max((len(name) for name, _ in rows), default=0)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


def _network_rows(prefix: str, metrics: dict[str, float]) -> list[tuple[str, str]]:
    units = metrics.get(f"{prefix}regime/possible_log2", math.nan)
    rows = []
    regimes, effective = metrics[f"{prefix}regime/visited"], metrics.get(f"{prefix}regime/effective", math.nan)
    rows.append((f"{prefix}regimes", f"{regimes:.0f} of 2^{units:.0f}, effectively {effective:.1f}"))
    if f"{prefix}units/active" in metrics:
        rows.append((f"{prefix}active units", f"{metrics[f'{prefix}units/active']:.0f} of {units:.0f}"))
    total = metrics.get(f"{prefix}fixed_points/total", math.nan)
    if math.isfinite(total):
        kinds = [
            f"{metrics[f'{prefix}fixed_points/{kind}']:.0f} {kind}"
            for kind in ("stable", "saddle", "unstable", "marginal")
            if metrics.get(f"{prefix}fixed_points/{kind}")
        ]
        more = "" if metrics.get(f"{prefix}fixed_points/complete") else "; there may be more"
        rows.append((f"{prefix}fixed points", f"{total:.0f}" + (f" ({', '.join(kinds)}{more})" if kinds else "")))
    return rows


@cache
def _versions() -> str:
    return ", ".join(f"{name} {version(name)}" for name in ("lightning-alrnn", "torch", "pytorch-lightning"))


def _typed(command: Sequence[str]) -> str:
    """What was typed: the command line turns the names of configurations that come with the package into paths."""
    program = Path(command[0]).name
    shipped = Path(str(resources.files("lightning_alrnn.configs")))
    typed = []
    for argument in command[1:]:
        flag, separator, value = argument.rpartition("=")
        if Path(value).is_relative_to(shipped):
            value = Path(value).relative_to(shipped).with_suffix("").as_posix()
        typed.append(flag + separator + value)
    own = program in ("__main__.py", "_submit.py")  # `python -m lightning_alrnn`, and a run of a sweep
    return shlex.join(["alrnn" if own else program, *typed])


def _checkpoint(trainer: Trainer) -> Path | None:
    """The best one, or the last one where none is kept as the best."""
    for callback in trainer.checkpoint_callbacks:
        path = getattr(callback, "best_model_path", "")
        if path and Path(path).name.startswith("best"):
            return Path(path)
    for callback in trainer.checkpoint_callbacks:
        path = getattr(callback, "best_model_path", "") or getattr(callback, "last_model_path", "")
        if path:
            return Path(path)
    return None


def _networks(pl_module: LightningModule) -> list[tuple[str, ALRNN]]:
    return [(path, module) for path, module in pl_module.named_modules() if isinstance(module, ALRNN)]


def _tensorboards(trainer: Trainer) -> list[TensorBoardLogger]:
    if not trainer.is_global_zero or trainer.fast_dev_run:  # type: ignore[attr-defined]
        return []
    return [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]


def _hyperparameters(trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
    """Those of model and data that are plain values."""
    data: Any = trainer.datamodule  # type: ignore[attr-defined]
    given = _own(pl_module.hparams)
    if data is not None:
        given |= {f"data/{name}": value for name, value in _own(data.hparams).items()}
    return {name: value for name, value in given.items() if isinstance(value, bool | int | float | str)}


def _own(hyperparameters: Mapping[str, Any]) -> dict[str, Any]:
    """Without what LightningCLI notes for itself."""
    return {name: value for name, value in hyperparameters.items() if not name.startswith("_")}


@rank_zero_only
def _write(text: str) -> None:
    if text:
        sys.stdout.write(f"\n{text}\n")
