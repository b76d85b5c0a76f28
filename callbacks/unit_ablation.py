"""Which nonlinear units matter to the task."""

from __future__ import annotations

from typing import Any, Protocol, cast, runtime_checkable

import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from matplotlib.figure import Figure
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor

from lightning_alrnn.analysis.ablation import AblationScores, ablation_scores, ablation_sums
from lightning_alrnn.batch import SequenceBatch
from lightning_alrnn.callbacks.base import PeriodicCallback, find_alrnn
from lightning_alrnn.metrics.ablation import AblationSums
from lightning_alrnn.nn.alrnn import ALRNN
from lightning_alrnn.nn.scan import ScanOutput
from lightning_alrnn.readings import Ablation


@runtime_checkable
class Ablatable(Protocol):
    """A LightningModule that goes from a batch to its loss by way of the states, as :class:`ALRNNModule` does."""

    @property
    def judges_trials(self) -> bool:
        """Whether predictions are right or wrong."""

    def encode(self, inputs: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Inputs of the core, ``(batch, steps, width)``, and their lengths, from the inputs of a batch."""

    def read_out(self, states: Tensor, last: Tensor) -> Tensor:
        """Outputs, from the states ``(batch, time, M)`` and the last state of each sequence, ``(batch, M)``."""

    def task_loss(self, outputs: Tensor, batch: SequenceBatch) -> tuple[Tensor, Tensor]:
        """Loss of each sequence ``(batch,)`` or step ``(batch, time)``, and its weight in the mean."""

    def count_right(self, outputs: Tensor, batch: SequenceBatch, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Numbers of right and of counted predictions of each sequence, int64 of shape ``(batch,)``."""


class UnitAblation(PeriodicCallback):
    """Logs the keys of :class:`~lightning_alrnn.readings.Ablation`: loss without each nonlinear unit.

    A unit is *linearised* (it passes on z itself, not max(0, z)) or *silenced* (held at zero) in some sequences of
    validation; nothing is trained again. The figure ``ablation/units`` shows each unit. The LightningModule is an
    :class:`ALRNNModule` or has its methods. The processes share the sequences equally; each takes the first ones that
    it gets, so the sequences do not depend on the number of processes if a sampler distributes them in turn.

    Args:
        sequences: Number of sequences of validation.
        threshold: Share of the task loss; a unit with a larger increase is important.
        every_n_epochs: Number of epochs between two evaluations. Each runs the sequences 2 P + 1 times.
        figure_every_n_epochs: Number of epochs between two figures, 0 for none.

    Attributes:
        result: The :class:`AblationScores` of the last evaluation.

    Raises:
        ValueError: If ``sequences`` is less than 1 or ``threshold`` negative.
        MisconfigurationException: In ``setup``, if the LightningModule holds no ALRNN or has not the methods.
    """

    def __init__(
        self, sequences: int = 256, threshold: float = 0.1, every_n_epochs: int = 10, figure_every_n_epochs: int = 50
    ) -> None:
        super().__init__(every_n_epochs, figure_every_n_epochs)
        if sequences < 1:
            raise ValueError(f"sequences must be at least 1, got {sequences}")
        if not threshold >= 0:
            raise ValueError(f"threshold must be a share of the task loss, 0 or more, got {threshold}")
        self.sequences = sequences
        self.reading = Ablation(threshold)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if not isinstance(pl_module, Ablatable):
            raise MisconfigurationException(
                "UnitAblation needs a LightningModule that goes from a batch to its task loss as ALRNNModule does, by "
                f"encode, an ALRNN, read_out and task_loss; {type(pl_module).__name__} does not: use ALRNNModule, or "
                "leave this callback out"
            )
        self._rnn = find_alrnn(pl_module, None, type(self).__name__)[1]

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._due = self.is_due(trainer)
        if self._due:
            device = pl_module.device if pl_module.device.type != "mps" else "cpu"  # Apple's MPS has no float64
            self._sums = AblationSums(self._rnn.nonlinear_units).to(device)
            world, rank = trainer.world_size, trainer.global_rank
            self._remaining = (self.sequences + world - 1 - rank) // world

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *indices: Any, **named: Any
    ) -> None:
        if not self._due or self._remaining == 0:
            return
        if not isinstance(batch, SequenceBatch):
            raise MisconfigurationException(
                f"UnitAblation scores sequences: a batch must be a SequenceBatch, got {type(batch).__name__}"
            )
        some = SequenceBatch(*(None if field is None else field[: self._remaining] for field in batch))  # type: ignore[arg-type]
        self._remaining -= len(some.inputs)
        self._sums.update(score_without_units(cast(Ablatable, pl_module), self._rnn, some))

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._due:
            self.result: AblationScores = ablation_scores(self._sums.total_of_all())
            self.report(trainer, pl_module, self.reading.values(self.result))

    def figures(self) -> dict[str, Figure]:
        return self.reading.figures(self.result)


@torch.no_grad()
def score_without_units(module: Ablatable, rnn: ALRNN, batch: SequenceBatch) -> Tensor:
    """Sums for :func:`~lightning_alrnn.analysis.ablation.ablation_scores` of a batch, ``(1 + 2 P, 4)``."""
    inputs, lengths = module.encode(batch.inputs, batch.lengths)

    def score(run: ScanOutput) -> Tensor:
        outputs = module.read_out(*run)
        loss, weight = module.task_loss(outputs, batch)
        right = counted = loss.new_zeros(1)
        if module.judges_trials:
            right, counted = module.count_right(outputs, batch, weight)
        # a step of no weight adds nothing, not even where its loss is infinite
        weighted = torch.where(weight > 0, loss * weight, 0.0)
        return torch.stack([part.sum().float() for part in (weighted, weight, right, counted)])

    return ablation_sums(rnn, inputs, score, lengths)
