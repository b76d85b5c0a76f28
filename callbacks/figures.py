"""Figures, texts and embeddings for every logger that takes them, and figures as PNG files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from lightning_utilities.core.rank_zero import rank_zero_warn
from matplotlib.figure import Figure
from pytorch_lightning import Trainer
from pytorch_lightning.loggers import Logger
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor

from lightning_alrnn.files import write_file
from lightning_alrnn.plotting.style import encode_png, render


def log_figures(trainer: Trainer, draw: Callable[[], dict[str, Figure]]) -> None:
    """Draw figures by name and log them, on the first process; every process calls this function.

    Each figure is rendered once. It becomes an image in each logger that takes images, and a file in the Trainer's log
    directory: ``figures/<name>-epoch=<epoch>.png`` in a fit, ``figures/<name>-validate.png`` or
    ``figures/<name>-test.png`` otherwise. Nothing is drawn without a logger, under ``fast_dev_run``, or if a
    callback has the attribute ``without_figures``, as in a sweep. In a fit, a figure that cannot be drawn or written,
    for example on a full disk, is a warning, and training goes on.
    """
    if not trainer.loggers or trainer.fast_dev_run:  # type: ignore[attr-defined]
        return
    if any(getattr(callback, "without_figures", False) for callback in trainer.callbacks):  # type: ignore[attr-defined]
        return
    directory = trainer.log_dir  # a broadcast: every process takes part
    if not trainer.is_global_zero:
        return
    function = trainer.state.fn
    # a validation after the fit writes into the folder of the run, where it must not replace the figures of the fit
    when = f"epoch={trainer.current_epoch:03d}" if function in (None, TrainerFn.FITTING) else function.value
    try:
        for name, figure in draw().items():
            path = None if directory is None else Path(directory, "figures", f"{name.replace('/', '_')}-{when}.png")
            _log_figure(trainer, name, figure, path)
    except Exception as error:
        if function != TrainerFn.FITTING:
            raise
        rank_zero_warn(f"figures of {when} are missing, training goes on: {type(error).__name__}: {error}")


def _log_figure(trainer: Trainer, name: str, figure: Figure, path: Path | None) -> None:
    image = render(figure)
    for logger in trainer.loggers:  # first: a CSVLogger clears its folder when it starts
        _log_image(logger, name, image, figure, trainer.global_step)
    if path is not None:
        write_file(path, encode_png(image))


def log_text(trainer: Trainer, name: str, text: str) -> None:
    """Log a text in Markdown by ``add_text`` (TensorBoard)."""
    for experiment in _experiments(trainer, "add_text"):
        experiment.add_text(name, text, global_step=trainer.global_step)


def log_embedding(
    trainer: Trainer, name: str, points: Tensor, header: Sequence[str], rows: Sequence[Sequence[str]]
) -> None:
    """Log points ``(points, M)`` by ``add_embedding`` (TensorBoard), with a table that has one row per point."""
    for experiment in _experiments(trainer, "add_embedding"):
        experiment.add_embedding(
            points.cpu(),
            list(map(list, rows)),
            global_step=trainer.global_step,
            tag=name.replace("/", "_"),
            metadata_header=list(header),
        )


def _experiments(trainer: Trainer, method: str) -> Iterator[Any]:
    """The experiments of the loggers that have a method; none on other processes or under ``fast_dev_run``."""
    if not trainer.is_global_zero or trainer.fast_dev_run:  # type: ignore[attr-defined]
        return
    for logger in trainer.loggers:
        experiment = logger.experiment  # type: ignore[attr-defined]
        if hasattr(experiment, method):
            yield experiment


def _log_image(logger: Logger, name: str, image: Any, figure: Figure, step: int) -> None:
    experiment: Any = logger.experiment  # type: ignore[attr-defined]
    if hasattr(experiment, "add_image"):  # TensorBoard
        experiment.add_image(name, image, global_step=step, dataformats="HWC")
    elif hasattr(logger, "log_image"):  # Weights & Biases
        logger.log_image(key=name, images=[image], step=step)
    elif hasattr(logger, "run_id") and hasattr(experiment, "log_figure"):  # MLflow
        experiment.log_figure(logger.run_id, figure, f"figures/{name}-step={step}.png")
    elif hasattr(experiment, "log_figure"):  # Comet
        experiment.log_figure(figure_name=name, figure=figure, step=step)
