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
    """What it takes of a LightningModule: the way from a batch to its loss, by way of the states."""

    @property
    def judges_trials(self) -> bool:
        """Whether predictions are right or wrong."""
        ...

    def encode(self, inputs: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """What the core takes, and the lengths that it has.

        Args:
            inputs: of a batch, shape ``(batch, time, K)``, or what the encoder takes.
            lengths: valid steps of each sequence, int64 of shape ``(batch,)``; ``None`` where all are valid.

        Returns:
            Shape ``(batch, steps, width)``, and lengths within it.
        """
        ...

    def read_out(self, states: Tensor, last: Tensor) -> Tensor:
        """The outputs.

        Args:
            states: z_1 … z_T, shape ``(batch, time, M)``.
            last: the state at each sequence's own last step, shape ``(batch, M)``.

        Returns:
            Shape ``(batch, outputs)`` or ``(batch, time, outputs)``.
        """
        ...

    def task_loss(self, outputs: Tensor, batch: SequenceBatch) -> tuple[Tensor, Tensor]:
        """The task's own loss.

        Args:
            outputs: of :meth:`read_out`, shape ``(batch, outputs)`` or ``(batch, time, outputs)``.
            batch: the batch.

        Returns:
            The loss of each sequence ``(batch,)`` or step ``(batch, time)``, and its weight in the mean, of the same
            shape.
        """
        ...

    def count_right(self, outputs: Tensor, batch: SequenceBatch, weight: Tensor) -> tuple[Tensor, Tensor]:
        """How many predictions of each sequence are right, and how many count.

        Args:
            outputs: of :meth:`read_out`, shape ``(batch, outputs)`` or ``(batch, time, outputs)``.
            batch: the batch.
            weight: of :meth:`task_loss`, shape ``(batch,)`` or ``(batch, time)``.

        Returns:
            Two int64 tensors of shape ``(batch,)``.
        """
        ...


class UnitAblation(PeriodicCallback):
    """Logs what it costs to take the nonlinear units away, one at a time, on some sequences of validation.

    A unit is *linearised* (it passes on z itself, not max(0, z)) or *silenced* (held at zero) throughout; nothing is
    trained anew. A unit that is always on costs nothing to linearise, one that is always off nothing to silence.
    Logged in the epochs that are evaluated:

    - ``ablation/linearise_max``, ``ablation/linearise_mean``: increase of the task loss where a unit is linearised, the
      largest over units and the mean; infinite where the network without it diverges, 0 where P=0;
    - ``ablation/silence_max``, ``ablation/silence_mean``: the same where it is silenced;
    - ``ablation/important_units``: number of units of which either increase is more than ``threshold`` times the task
      loss.

    The figure ``ablation/units`` shows each unit. The loss (and accuracy) is that of :class:`ALRNNModule`, of which or
    of whose kind the LightningModule has to be. Sums go over all processes, each of which has an equal share of
    ``sequences``, the first it is given; so one process and several see the same sequences as long as a sampler deals
    them out in turn, as Lightning's does.

    Args:
        sequences: number of sequences of validation.
        threshold: share of the task loss from which a unit counts as important.
        every_n_epochs: epochs between two evaluations; each costs 2 P + 1 runs over the sequences.
        figure_every_n_epochs: epochs between two figures, 0 for none.

    Attributes:
        result: the :class:`AblationScores` of the last evaluation.

    Raises:
        ValueError: if ``sequences`` is less than 1 or ``threshold`` negative.
        MisconfigurationException: in ``setup``, if the LightningModule holds no ALRNN or is of another kind.
    """

    def __init__(
        self,
        sequences: int = 256,
        threshold: float = 0.1,
        every_n_epochs: int = 10,
        figure_every_n_epochs: int = 50,
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
                f"UnitAblation needs a LightningModule that goes from a batch to its task loss as ALRNNModule does, by "
                f"encode, an ALRNN, read_out and task_loss; {type(pl_module).__name__} does not: use ALRNNModule, or "
                "leave this callback out"
            )
        self._rnn = find_alrnn(pl_module, None, type(self).__name__)[1]

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._due = self.is_due(trainer)
        if self._due:
            # Apple's MPS has no float64
            device = pl_module.device if pl_module.device.type != "mps" else torch.device("cpu")
            self._sums = AblationSums(self._rnn.nonlinear_units).to(device)
            world, rank = trainer.world_size, trainer.global_rank
            self._left = (self.sequences + world - 1 - rank) // world

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if not self._due or self._left == 0:
            return
        if not isinstance(batch, SequenceBatch):
            raise MisconfigurationException(
                f"UnitAblation scores sequences: a batch must be a SequenceBatch, got {type(batch).__name__}"
            )
        some = SequenceBatch(*(None if field is None else field[: self._left] for field in batch))  # type: ignore[arg-type]
        self._left -= len(some.inputs)
        self._sums.update(score_without_units(cast(Ablatable, pl_module), self._rnn, some))

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self._due:
            return
        self.result: AblationScores = ablation_scores(self._sums.total_of_all())
        self.report(trainer, pl_module, self.reading.values(self.result))

    def figures(self) -> dict[str, Figure]:
        return self.reading.figures(self.result)


@torch.no_grad()
def score_without_units(module: Ablatable, rnn: ALRNN, batch: SequenceBatch) -> Tensor:
    """Score a batch without each nonlinear unit of a LightningModule.

    Args:
        module: goes from a batch to its task loss, as :class:`ALRNNModule` does.
        rnn: its network.
        batch: the batch.

    Returns:
        Sums for :func:`~lightning_alrnn.analysis.ablation.ablation_scores`, float64 of shape ``(1 + 2 P, 4)``.
    """
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
