"""The commands ``alrnn sweep`` and ``alrnn analyze`` as functions of Python."""

# help and `alrnn configs` import this package: what takes seconds is imported within the functions
from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytorch_lightning import LightningDataModule

    from lightning_alrnn.commands.analyze import Analysis
    from lightning_alrnn.sweep import Verdict

_INTERRUPTED, _REFUSED = 130, 2


def sweep_units(
    data: LightningDataModule | str | Path,
    nonlinear_units: Sequence[int],
    seeds: int | str = 5,
    output_dir: str | Path = "runs/sweep",
    *,
    model: Mapping[str, Any] | None = None,
    trainer: Mapping[str, Any] | None = None,
    **options: Any,
) -> Verdict:
    """Train networks with different numbers of nonlinear units, and judge how many the task needs.

    This is ``alrnn sweep``: a repeated call continues the sweep in its folder, and the verdict is printed.

    Args:
        data: DataModule, or the name or path of a configuration, such as "addition_quick". A DataModule must keep its
            arguments with ``save_hyperparameters``, as those of this package do.
        nonlinear_units: Numbers P of nonlinear units.
        seeds: Number of seeds, or a range such as "5..40" to add seeds until the verdict is clear.
        output_dir: Folder of the sweep.
        model: Arguments of the network, such as ``{"hidden_size": 20, "optimizer.lr": 0.01}``.
        trainer: Arguments of the Trainer, such as ``{"max_epochs": 30}``.
        **options: Other options of ``alrnn sweep``, such as ``jobs=2``.

    Returns:
        The verdict.

    Raises:
        KeyboardInterrupt: If the sweep is interrupted.
        RuntimeError: If a run failed.
        ValueError: If an option is wrong, or the folder holds a sweep with other options or data.

    Example:
        >>> sweep_units("addition_quick", [0, 1, 2, 5], seeds=5).answer  # doctest: +SKIP
    """
    from lightning_alrnn.commands.sweep import run_sweep
    from lightning_alrnn.sweep.verdict_page import write_verdict

    folder = Path(output_dir)
    arguments = [f"--config={data}"] if isinstance(data, (str, Path)) else _data_arguments(data, folder)
    units = ",".join(map(str, nonlinear_units))
    arguments += [f"--nonlinear_units={units}", f"--seeds={seeds}", f"--output_dir={folder}"]
    arguments += [*_arguments(options), *_arguments(model or {}, "model."), *_arguments(trainer or {}, "trainer.")]
    try:
        run_sweep(arguments)
    except SystemExit as stopped:
        if stopped.code == _INTERRUPTED:
            raise KeyboardInterrupt from None
        if stopped.code == _REFUSED:
            raise ValueError("alrnn sweep refused its options: the reason is printed above") from None
        raise RuntimeError(f"runs of the sweep in {folder} are missing: the reasons are printed above") from None
    return write_verdict(folder)


def analyze_checkpoint(
    checkpoint: str | Path,
    data: LightningDataModule | None = None,
    output_dir: str | Path | None = None,
    **options: Any,
) -> Analysis:
    """Analyse a trained network and write a report on what it does.

    This is ``alrnn analyze``.

    Args:
        checkpoint: Path of the checkpoint.
        data: DataModule for a network that was trained in Python; ``None`` to find the configuration of
            ``alrnn fit`` beside the checkpoint.
        output_dir: Folder of the report; by default, ``analysis`` in the log directory.
        **options: Other options of ``alrnn analyze``, such as ``max_sequences=128``.

    Returns:
        Folder of report.html, and the content of report.json.

    Raises:
        FileNotFoundError: If there is no checkpoint.
        ValueError: If the file is broken, or the data cannot be written into the folder.

    Example:
        >>> path = "runs/Addition/version_0/checkpoints/last.ckpt"
        >>> analyze_checkpoint(path).report["answer"]  # doctest: +SKIP
    """
    from lightning_alrnn.commands.analyze import analyze_network
    from lightning_alrnn.extensions.checkpoints import log_directory

    folder = log_directory(Path(checkpoint)) / "analysis" if output_dir is None else Path(output_dir)
    arguments = [f"--ckpt_path={checkpoint}", f"--output_dir={folder}", *_arguments(options)]
    return analyze_network(arguments if data is None else [*arguments, *_data_arguments(data, folder)])


def _arguments(options: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Options as the command line takes them."""
    for name, value in options.items():
        if prefix or not isinstance(value, list):
            yield f"--{prefix}{name}={value if isinstance(value, (str, Path)) else json.dumps(value)}"
        else:
            yield from (f"--{name}", *map(str, value))


def _data_arguments(data: LightningDataModule, folder: Path) -> list[str]:
    """The options that make a DataModule again; the arrays in its memory are written into a folder."""
    import numpy as np

    from lightning_alrnn import datamodules

    cls = type(data)
    if cls.__module__ == "__main__":
        raise ValueError(
            f"{cls.__name__} is defined in a script, where other processes cannot import it: move it to a module"
        )
    parameters = signature(cls).parameters
    values = {
        name: value for name, value in data.hparams.items() if name in parameters and value != parameters[name].default
    }
    for name, source in getattr(data, "_sources", {}).items():  # of Arrays
        if source is None or name in values:
            continue
        try:
            array = np.asarray(source)
        except ValueError:
            array = np.empty(0, dtype=object)
        if array.dtype.hasobject:
            raise ValueError(
                f"{name} must be one array to be written for the other processes, got sequences of different lengths: "
                "pad them, and pass lengths"
            )
        values[name] = _write_array(folder / "data" / f"{name}.npy", array)
    shipped = getattr(datamodules, cls.__name__, None) is cls
    name = cls.__name__ if shipped else f"{cls.__module__}.{cls.__qualname__}"
    return [f"--data={name}", *_arguments(values, "data.")]


def _write_array(path: Path, array: Any) -> Path:
    import numpy as np

    from lightning_alrnn.files import write_file

    content = io.BytesIO()
    np.save(content, array)
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, content.getbuffer())
    elif path.read_bytes() != content.getbuffer():
        raise ValueError(f"{path} holds other data: use another output_dir")
    return path.resolve()
