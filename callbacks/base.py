"""What the callbacks share: finding the ALRNN, reading states, logging scalars and figures."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from matplotlib.figure import Figure
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor

from lightning_alrnn.callbacks.figures import log_figures
from lightning_alrnn.nn.alrnn import ALRNN
from lightning_alrnn.readings import READINGS, Evidence, Reading, share_evidence

_Value = TypeVar("_Value")
_PROGRESS_BAR = ("regime/visited", "units/active")


class PeriodicCallback(Callback):
    """Base of the callbacks that log scalars and figures every few epochs of validation.

    Scalars go to every logger of the Trainer. Figures go to the loggers that take images, and as PNG files to the
    folder ``figures`` of the log directory.

    Args:
        every_n_epochs: Number of epochs between two evaluations; the last epoch is always evaluated.
        figure_every_n_epochs: Number of epochs between two figures, 0 for none; the last evaluation always has one.
        prefix: Text in front of the names of scalars and figures.

    Raises:
        ValueError: If ``every_n_epochs`` is less than 1, or ``figure_every_n_epochs`` less than 0.
    """

    def __init__(self, every_n_epochs: int = 1, figure_every_n_epochs: int = 25, prefix: str = "") -> None:
        super().__init__()
        if every_n_epochs < 1:
            raise ValueError(f"every_n_epochs must be at least 1, got {every_n_epochs}")
        if figure_every_n_epochs < 0:
            raise ValueError(f"figure_every_n_epochs must be 0 (no figures) or more, got {figure_every_n_epochs}")
        self.every_n_epochs = every_n_epochs
        self.figure_every_n_epochs = figure_every_n_epochs
        self.prefix = prefix
        self._due = False
        self._undrawn = False

    @abstractmethod
    def figures(self) -> dict[str, Figure]:
        """Return the figures of the last evaluation, by name. Only the first process calls this method."""

    def is_due(self, trainer: Trainer) -> bool:
        """Return whether the epoch that begins is evaluated.

        Args:
            trainer: Trainer that runs the epoch.

        Returns:
            ``True`` in a fit every ``every_n_epochs`` and in the last epoch, and in any other run; ``False`` in the
            sanity check.
        """
        return not trainer.sanity_checking and _is_due(trainer, self.every_n_epochs)

    def report(self, trainer: Trainer, pl_module: LightningModule, values: dict[str, float]) -> None:
        """Log the scalars of an evaluation, and its figures if they are due. Call this method on every process.

        Args:
            trainer: Trainer whose loggers are used.
            pl_module: LightningModule that logs the scalars.
            values: Scalars by key, without the prefix.
        """
        # on the module's device, by one copy: NCCL cannot reduce tensors on the CPU
        scalars = torch.tensor(list(values.values()), dtype=torch.float32, device=pl_module.device).unbind()
        # equal on all processes already; sync_dist makes the keys known to every one of them
        for key, value in zip(self._prefixed(values), scalars, strict=True):
            shown = key.endswith(_PROGRESS_BAR)
            pl_module.log(key, value, on_step=False, on_epoch=True, sync_dist=True, prog_bar=shown)
        self._undrawn = self.figure_every_n_epochs > 0
        if self._undrawn and _is_due(trainer, self.figure_every_n_epochs):
            self._draw(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # training may have been stopped early, between two figures
        self._draw(trainer)

    def _draw(self, trainer: Trainer) -> None:
        if self._undrawn:
            self._undrawn = False
            log_figures(trainer, lambda: self._prefixed(self.figures()))

    def _prefixed(self, named: dict[str, _Value]) -> dict[str, _Value]:
        return {f"{self.prefix}{name}": value for name, value in named.items()}


class StatesCallback(PeriodicCallback):
    """Base of the callbacks that look at the states of a validation epoch.

    ``validation_step`` of the LightningModule returns a dict with ``"states"``, shape ``(batch, time, M)``, as
    :class:`ALRNNModule` does; with padded sequences also ``"lengths"``, and with groups of trials the indices
    ``"group"``, both of shape ``(batch,)``.

    A LightningModule with several ALRNNs, such as :class:`ALRNNSeq2Seq`, returns dicts of these by the names of the
    ALRNNs. A callback looks at the one in ``module``, and logs it with its name in front: ``encoder/regime/visited``.

    Args:
        every_n_epochs: Number of epochs between two evaluations; the last epoch is always evaluated.
        figure_every_n_epochs: Number of epochs between two figures, 0 for none; the last evaluation always has one.
        module: Name of the ALRNN if the LightningModule has several: its path, such as "network.encoder", or the end
            of the path, "encoder".

    Attributes:
        needs: Parts of :attr:`evidence` that :meth:`compute` reads: "regimes", "moments", "units", "trajectories".
        evidence: The network and the states of the epoch, shared by all callbacks that look at this ALRNN.

    Raises:
        MisconfigurationException: In ``setup``, if the LightningModule holds no ALRNN, or several and none is named; in
            validation, if the output has no states.
    """

    needs: tuple[str, ...] = ()
    evidence: Evidence

    def __init__(self, every_n_epochs: int = 1, figure_every_n_epochs: int = 25, module: str | None = None) -> None:
        super().__init__(every_n_epochs, figure_every_n_epochs, prefix="" if module is None else f"{module}/")
        self.module = module
        self._rnn: ALRNN | None = None
        self._path = ""

    @property
    def state_key(self) -> str:
        """Key of the state in a checkpoint, which differs between callbacks for different ALRNNs."""
        return super().state_key if self.module is None else self._generate_state_key(module=self.module)

    @property
    def rnn(self) -> ALRNN:
        """The ALRNN that the callback looks at.

        Raises:
            RuntimeError: Before ``setup``.
        """
        if self._rnn is None:
            raise RuntimeError(f"{type(self).__name__} has no ALRNN before setup(trainer, pl_module, stage)")
        return self._rnn

    def reset(self, rnn: ALRNN, device: torch.device) -> None:
        """Reset the sums of a subclass before an epoch of validation.

        Args:
            rnn: Network.
            device: Device of its states.
        """

    def update(self, states: Tensor, lengths: Tensor, group: Tensor | None) -> None:
        """Add a batch to the sums of a subclass.

        Args:
            states: States z_1 … z_T, shape ``(batch, time, M)``.
            lengths: Number of valid steps of each sequence, int64 of shape ``(batch,)``.
            group: Index of the group of each sequence, int64 of shape ``(batch,)``; ``None`` without groups.
        """

    @abstractmethod
    def compute(self, rnn: ALRNN) -> dict[str, float]:
        """Return the scalars of the epoch, with the same keys in every epoch. Every process calls this method.

        Args:
            rnn: Network.

        Returns:
            Values by key, without the prefix.
        """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._path, self._rnn = find_alrnn(pl_module, self.module, type(self).__name__)
        self._group_names, self._class_names = (
            names_of(trainer, pl_module, kind) for kind in ("group_names", "class_names")
        )

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._due = self.is_due(trainer)
        if self._due:
            self.evidence = share_evidence(self.rnn, pl_module.device, self._group_names, self._class_names)
            self.evidence.need(*self.needs)
            self.reset(self.rnn, pl_module.device)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if self._due:
            states = self._states_of(outputs, pl_module)
            self.evidence.update((dataloader_idx, batch_idx), *states, self._classes_of(outputs, states[1]))
            self._outputs, self._batch = outputs, batch  # for subclasses whose `update` needs more than the states
            self.update(*states)
            del self._outputs, self._batch

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._due:
            self.report(trainer, pl_module, self.compute(self.rnn))

    def _states_of(self, outputs: Any, pl_module: LightningModule) -> tuple[Tensor, Tensor, Tensor | None]:
        states, lengths, group = (self._output(outputs, name) for name in ("states", "lengths", "group"))
        size = self.rnn.hidden_size
        if not isinstance(states, Tensor) or states.ndim != 3 or states.shape[-1] != size:
            got = f"states of shape {tuple(states.shape)}" if isinstance(states, Tensor) else type(outputs).__name__
            raise MisconfigurationException(
                f"{type(self).__name__} needs {type(pl_module).__name__}.validation_step to return a dict with "
                f'"states" of shape (batch, time, M={size}), and "lengths" of shape (batch,) if sequences are '
                f'padded; got {got}. Return {{"loss": loss, "states": states, "lengths": lengths}}'
            )
        if lengths is None:
            lengths = torch.full((len(states),), states.shape[1], dtype=torch.int64, device=states.device)
        if group is not None and tuple(group.shape) != (len(states),):
            raise MisconfigurationException(
                f'{type(self).__name__} needs "group" of {type(pl_module).__name__}.validation_step to have shape '
                f"({len(states)},), the index of each sequence's group, got {tuple(group.shape)}"
            )
        return states.detach(), lengths.to(states.device), None if group is None else group.to(states.device)

    def _classes_of(self, outputs: Any, lengths: Tensor) -> Tensor | None:
        """The class of each sequence, int64 of shape ``(batch,)``, or ``None``."""
        targets = self._output(outputs, "targets")
        if not isinstance(targets, Tensor) or targets.shape != lengths.shape or targets.is_floating_point():
            return None
        return targets.to(lengths.device)

    def _output(self, outputs: Any, name: str) -> Any:
        """The entry ``name`` of the outputs, or the part of it that belongs to this ALRNN."""
        entry = outputs.get(name) if isinstance(outputs, Mapping) else None
        if isinstance(entry, Mapping):
            return next((value for key, value in entry.items() if _ends_with(self._path, key)), None)
        return entry


class ReadingCallback(StatesCallback):
    """Logs the keys and figures of a reading of the states of validation.

    Args:
        reading: The reading, a :class:`~lightning_alrnn.readings.Reading`.
        every_n_epochs: Number of epochs between two evaluations.
        figure_every_n_epochs: Number of epochs between two figures, 0 for none.
        module: Name of the ALRNN if the LightningModule has several; it is put in front of the keys.

    Attributes:
        reading: The reading.
        answer: Result of :meth:`Reading.measure` at the last evaluation.

    Raises:
        ValueError: If a number of epochs is out of range.

    Example:
        >>> from lightning_alrnn.readings import Regimes
        >>> ReadingCallback(Regimes(), every_n_epochs=5).needs
        ('regimes',)
    """

    def __init__(
        self, reading: Reading, every_n_epochs: int = 1, figure_every_n_epochs: int = 25, module: str | None = None
    ) -> None:
        super().__init__(every_n_epochs, figure_every_n_epochs, module)
        self.reading = reading
        self.needs = reading.needs

    @property
    def state_key(self) -> str:
        """Key of the state in a checkpoint, which differs between readings and between ALRNNs."""
        if type(self) is not ReadingCallback:  # has a name of its own
            return super().state_key
        return self._generate_state_key(reading=type(self.reading).__qualname__, module=self.module)

    def compute(self, rnn: ALRNN) -> dict[str, float]:
        self.answer: Any = self.reading.measure(self.evidence)
        return self.reading.values(self.answer)

    def figures(self) -> dict[str, Figure]:
        return self.reading.figures(self.answer)


def further_readings(callbacks: Iterable[Callback]) -> list[Reading]:
    """The readings that callbacks log and that are not part of the package."""
    readings = [callback.reading for callback in callbacks if isinstance(callback, ReadingCallback)]
    return [reading for reading in readings if type(reading) not in map(type, READINGS)]


def names_of(trainer: Trainer, pl_module: LightningModule, kind: str) -> list[str] | None:
    """The names that the DataModule or the LightningModule has, such as those of kind "group_names"."""
    names = (getattr(holder, kind, None) for holder in (getattr(trainer, "datamodule", None), pl_module))
    return next(([str(name) for name in each] for each in names if each), None)


def alrnns_of(pl_module: LightningModule) -> dict[str, ALRNN]:
    """The ALRNNs within a LightningModule, by path."""
    return {path: module for path, module in pl_module.named_modules() if isinstance(module, ALRNN)}


def find_alrnn(pl_module: LightningModule, name: str | None, callback: str) -> tuple[str, ALRNN]:
    """The path and the ALRNN with a name (a path or its end), or the only ALRNN of a LightningModule."""
    alrnns = alrnns_of(pl_module)
    if name is not None:
        matches = [name] if name in alrnns else [path for path in alrnns if _ends_with(path, name)]
        if len(matches) != 1:
            raise MisconfigurationException(
                f"{callback}: module={name!r} is {'several ALRNNs' if matches else 'no ALRNN'} of "
                f"{type(pl_module).__name__}; its ALRNNs are {sorted(alrnns) or 'none'}"
            )
        return matches[0], alrnns[matches[0]]
    if not alrnns:
        core = getattr(pl_module, "core", None)
        reason = f"its core is {type(core).__name__}" if core is not None else "it has none"
        raise MisconfigurationException(
            f"{callback} looks at the regimes of an ALRNN, but {type(pl_module).__name__} holds none ({reason}): "
            "use an ALRNN (core='ALRNN'), or leave this callback out"
        )
    if len(alrnns) > 1:
        raise MisconfigurationException(
            f"{callback} found several ALRNNs in {type(pl_module).__name__}: name one of them, module= one of "
            f"{', '.join(map(repr, sorted(alrnns)))}"
        )
    return next(iter(alrnns.items()))


def _is_due(trainer: Trainer, interval: int) -> bool:
    if trainer.state.fn != TrainerFn.FITTING:  # trainer.validate or trainer.test
        return True
    epoch = trainer.current_epoch + 1
    return epoch % interval == 0 or epoch == trainer.max_epochs


def _ends_with(path: str, name: str) -> bool:
    """Whether ``name`` is a module's path or the last parts of it."""
    return path == name or path.endswith(f".{name}")
