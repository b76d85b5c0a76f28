"""What is in use and what is fixed in each network of a population."""

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
    """Looks at each network of a population with callbacks of its own, such as ``RegimeOccupancy`` and ``FixedPoints``.

    In a fit this is done whenever the time that it takes, with that of a last look after the fit, stays below a share
    of the time since training began; the first validation looks at one member, to see how long it takes. In
    ``trainer.validate`` it is done always. What the callbacks would log is added to the population's ``scores`` under
    the same keys. They draw no figures.

    Args:
        callbacks: Callbacks of each member, of its own, as one callback looks at one network.
        share: Largest part of the time since training began that is spent on looking.

    Attributes:
        values: what was seen in the last validation by member and key; empty where nobody looked.

    Raises:
        ValueError: in ``setup``, if there are not as many lists of callbacks as members.

    Example:
        >>> from lightning_alrnn.callbacks import ActiveUnits, RegimeOccupancy
        >>> looks = MemberCallbacks([[RegimeOccupancy(), ActiveUnits()] for _ in range(6)])
        >>> Trainer(callbacks=[looks]).fit(population, data)  # doctest: +SKIP
    """

    def __init__(self, callbacks: Sequence[Sequence[StatesCallback]], share: float = 0.1) -> None:
        super().__init__()
        self.callbacks = [list(each) for each in callbacks]
        self.share = share
        self.values: dict[int, dict[str, float]] = {}
        self._due: dict[int, list[StatesCallback]] = {}
        self._began = 0.0  # training
        self._seconds = 0.0  # that were spent on looking since then
        self._look = 0.0  # seconds that a look at all members takes, by the last one
        self._before = 0.0  # of the seconds, those before the present look

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
        self._began, self._seconds, self._look = time.perf_counter(), 0.0, 0.0

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        with self._timed():
            population = cast(Any, pl_module)
            alive = [k for k, well in enumerate(population.alive) if well]  # of the others there may be but NaN
            if trainer.state.fn == TrainerFn.FITTING:
                stopped = population.stopped
                alive = [k for k in alive if not stopped[k]]
                if self._look == 0.0:
                    alive = sorted(alive, key=lambda k: population.networks[k].hparams["nonlinear_units"])[-1:]
                elif self._seconds + 2 * self._look > self.share * (time.perf_counter() - self._began):
                    alive = []
            self._before = self._seconds
            self._due = {k: [each for each in self.callbacks[k] if each.is_due(trainer)] for k in alive}
            self.values = {}
            for k, callback in self._each_due():
                callback.on_validation_epoch_start(trainer, population.networks[k])

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        with self._timed():
            members: Mapping[int, Any] = outputs["members"]
            for k, callback in self._each_due():
                network = cast(Any, pl_module).networks[k]
                own = SequenceBatch(*(None if field is None else field[k] for field in batch))  # type: ignore[arg-type]
                callback.on_validation_batch_end(trainer, network, members[k], own, batch_idx, dataloader_idx)
                self.values[k] = {}

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        population = cast(Any, pl_module)
        with self._timed():
            if self.values:
                population.members()  # whose weights the callbacks read
            for k, callback in self._each_due():
                if k in self.values:
                    values = callback.compute(callback.rnn)
                    self.values[k] |= {f"{callback.prefix}{key}": value for key, value in values.items()}
            for k, values in self.values.items():
                population.scores[k].update(values)
        if self.values:
            self._look = (self._seconds - self._before) * len(self.callbacks) / len(self.values)

    def _each_due(self) -> Iterator[tuple[int, StatesCallback]]:
        for k, callbacks in self._due.items():
            for callback in callbacks:
                yield k, callback

    @contextmanager
    def _timed(self) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self._seconds += time.perf_counter() - start
