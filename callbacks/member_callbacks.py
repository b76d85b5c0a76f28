"""Callbacks on each network of a population."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.trainer.states import TrainerFn

from lightning_alrnn.batch import SequenceBatch
from lightning_alrnn.callbacks.base import StatesCallback


class MemberCallbacks(Callback):
    """Runs callbacks such as ``RegimeOccupancy`` and ``FixedPoints`` on each network of a population.

    In a fit, they run as long as their time, with that of a last run after the fit, stays below a share of the time
    since training began; the first validation runs them on one member, to measure the time. In ``trainer.validate``
    they always run. Their values are added to the population's ``scores``. They draw no figures.

    Args:
        callbacks: Callbacks of each member.
        share: Largest share of the time since training began that the callbacks take.

    Attributes:
        values: Values of the last validation by member and key; empty if no callback ran.

    Raises:
        ValueError: In ``setup``, if the number of lists of callbacks is not the number of members.

    Example:
        >>> from lightning_alrnn.callbacks import ActiveUnits, RegimeOccupancy
        >>> callbacks = MemberCallbacks([[RegimeOccupancy(), ActiveUnits()] for _ in range(6)])
        >>> Trainer(callbacks=[callbacks]).fit(population, data)  # doctest: +SKIP
    """

    def __init__(self, callbacks: Sequence[Sequence[StatesCallback]], share: float = 0.1) -> None:
        super().__init__()
        self.callbacks = [list(each) for each in callbacks]
        self.share = share
        self.values: dict[int, dict[str, float]] = {}
        self._due: dict[int, list[StatesCallback]] = {}
        self._began = 0.0  # time at which training began
        self._seconds = 0.0  # time that the callbacks have taken since then
        self._per_run = 0.0  # time of a run on all members, estimated from the last run
        self._before = 0.0  # time before the present run

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        networks: Any = pl_module.networks
        if len(self.callbacks) != len(networks):
            raise ValueError(
                f"MemberCallbacks needs the callbacks of {len(networks)} members, got lists for {len(self.callbacks)}"
            )
        for callbacks, network in zip(self.callbacks, networks, strict=True):
            for callback in callbacks:
                callback.setup(trainer, network, stage)

    def state_dict(self) -> dict[str, Any]:
        return {"callbacks": [[callback.state_dict() for callback in callbacks] for callbacks in self.callbacks]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for callbacks, states in zip(self.callbacks, state_dict["callbacks"], strict=True):
            for callback, state in zip(callbacks, states, strict=True):
                callback.load_state_dict(state)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._began, self._seconds, self._per_run = time.perf_counter(), 0.0, 0.0

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        with self._timed():
            population = cast(Any, pl_module)
            alive = [k for k, well in enumerate(population.alive) if well]  # the others may have only NaN
            if trainer.state.fn == TrainerFn.FITTING:
                stopped = population.stopped
                alive = [k for k in alive if not stopped[k]]
                if self._per_run == 0.0:
                    alive = sorted(alive, key=lambda k: population.networks[k].hparams["nonlinear_units"])[-1:]
                elif self._seconds + 2 * self._per_run > self.share * (time.perf_counter() - self._began):
                    alive = []
            self._before = self._seconds
            self._due = {k: [each for each in self.callbacks[k] if each.is_due(trainer)] for k in alive}
            self.values = {}
            for k, callback in self._each_due():
                callback.on_validation_epoch_start(trainer, population.networks[k])

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *indices: Any, **named: Any
    ) -> None:
        with self._timed():
            members: Mapping[int, Any] = outputs["members"]
            for k, callback in self._each_due():
                network = cast(Any, pl_module).networks[k]
                part = SequenceBatch(*(None if field is None else field[k] for field in batch))  # type: ignore[arg-type]
                callback.on_validation_batch_end(trainer, network, members[k], part, *indices, **named)
                self.values[k] = {}

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        population = cast(Any, pl_module)
        with self._timed():
            if self.values:
                population.members()  # updates the weights that the callbacks read
            for k, callback in self._each_due():
                if k in self.values:
                    values = callback.compute(callback.rnn)
                    self.values[k] |= {f"{callback.prefix}{key}": value for key, value in values.items()}
            for k, values in self.values.items():
                population.scores[k].update(values)
        if self.values:
            self._per_run = (self._seconds - self._before) * len(self.callbacks) / len(self.values)

    def _each_due(self) -> Iterator[tuple[int, StatesCallback]]:
        return ((k, callback) for k, callbacks in self._due.items() for callback in callbacks)

    @contextmanager
    def _timed(self) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self._seconds += time.perf_counter() - start
