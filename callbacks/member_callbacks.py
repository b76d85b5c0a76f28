"""What is in use and what is fixed in each network of a population."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.trainer.states import TrainerFn

from lightning_alrnn.batch import SequenceBatch
from lightning_alrnn.callbacks.base import StatesCallback


class MemberCallbacks(Callback):
    """Looks at each network of a population with callbacks of its own, such as ``RegimeOccupancy`` and ``FixedPoints``.

    In a fit this is done at the first validation, and then whenever the time that it has taken is below a share of the
    time of training; in ``trainer.validate`` always. What the callbacks would log is added to the population's
    ``scores`` under the same keys. They draw no figures.

    Args:
        callbacks: for each member its own, as one callback looks at one network.
        share: of the time since training began that may be spent on looking.

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
        self._due: list[list[StatesCallback]] = []
        self._began = 0.0
        self._seconds = 0.0

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
        self._began, self._seconds = time.perf_counter(), 0.0

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        fitting = trainer.state.fn == TrainerFn.FITTING
        with_time = not fitting or self._seconds <= self.share * (time.perf_counter() - self._began)
        alive: list[bool] = cast(Any, pl_module).alive  # of the others there may be nothing but NaN
        self._due = [
            [callback for callback in callbacks if with_time and well and callback.is_due(trainer)]
            for callbacks, well in zip(self.callbacks, alive, strict=True)
        ]
        self.values = {}
        for k, callback in self._each_due():
            callback.on_validation_epoch_start(trainer, pl_module.networks[k])  # type: ignore[index,arg-type]

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        start = time.perf_counter()
        members: Mapping[int, Any] = outputs["members"]
        for k, callback in self._each_due():
            if k in members:
                network: Any = pl_module.networks[k]  # type: ignore[index]
                own = SequenceBatch(*(None if field is None else field[k] for field in batch))  # type: ignore[arg-type]
                callback.on_validation_batch_end(trainer, network, members[k], own, batch_idx, dataloader_idx)
                self.values[k] = {}
        self._seconds += time.perf_counter() - start

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        start = time.perf_counter()
        population: Any = pl_module
        population.members()  # whose weights the callbacks read
        for k, callback in self._each_due():
            if k in self.values:  # its training goes on
                self.values[k] |= {f"{callback.prefix}{key}": value for key, value in callback.compute(callback.rnn).items()}
        for k, values in self.values.items():
            population.scores[k].update(values)
        self._seconds += time.perf_counter() - start

    def _each_due(self) -> Iterator[tuple[int, StatesCallback]]:
        for k, callbacks in enumerate(self._due):
            for callback in callbacks:
                yield k, callback
