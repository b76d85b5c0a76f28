"""Where trajectories run, in the plane of their principal components."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from matplotlib.figure import Figure
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor
from torch.nn import functional

from lightning_alrnn.analysis.spectrum import PrincipalComponents
from lightning_alrnn.callbacks.base import ReadingCallback, find_group_names
from lightning_alrnn.callbacks.figures import log_embedding
from lightning_alrnn.nn.alrnn import ALRNN
from lightning_alrnn.plotting.trajectories import Trajectory, plot_trajectories, regime_names
from lightning_alrnn.readings import LatentDimensions

_SEQUENCES = 128
_OF_EACH_LABEL = 16
_LOOKED_AT = 2048
_STEPS = 200
_ROWS = 5000


class LatentTrajectories(ReadingCallback):
    """Shows the states in the plane of their leading principal components, and logs how many dimensions they fill.

    Logged every epoch of validation, over all valid steps and all processes:

    - ``latent/pc1_variance``: share of the states' variance along their leading principal component, 0 to 1;
    - ``latent/pc3_variance``: share along the leading three;
    - ``latent/participation_ratio``: (Σ λ)² / Σ λ² of the variances λ along the components, the effective number of
      dimensions, from 1 (a line) to M (the same variance along each).

    All are NaN where states do not vary. The figure ``latent/trajectories`` shows up to 128 sequences of the first
    process, from its first 2048 the first 16 of each class and group, up to 200 steps of each; coloured by class and by
    group where there are any (else by time), and beside it by regime.

    Groups are as in :class:`RegimeOccupancy`. Classes are ``"targets"``, int64 of shape ``(batch,)``, in what
    ``validation_step`` returns, as in :class:`ALRNNModule` under classification at the last step; the DataModule has
    their names in ``class_names``. Beyond that see :class:`StatesCallback`.

    Args:
        embeddings: write the states of those sequences, 5000 at most, for TensorBoard's projector, each with its class,
            group, regime, sequence and step: after the last evaluation of a training run, and after each other
            validation. Other loggers get none.
        every_n_epochs: epochs between two evaluations.
        figure_every_n_epochs: epochs between two figures, 0 for none.
        module: name of the ALRNN within the LightningModule, where it has several; it then stands before the keys.

    Attributes:
        answer: the :class:`PrincipalComponents` of the states at the last evaluation.

    Raises:
        MisconfigurationException: in ``setup``, if the LightningModule holds no ALRNN.
    """

    def __init__(
        self,
        embeddings: bool = False,
        every_n_epochs: int = 1,
        figure_every_n_epochs: int = 25,
        module: str | None = None,
    ) -> None:
        super().__init__(LatentDimensions(), every_n_epochs, figure_every_n_epochs, module)
        self.embeddings = embeddings
        self._keeps = False
        self._kept: list[Trajectory] = []
        self._targets: Tensor | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        datamodule = getattr(trainer, "datamodule", None)
        self._group_names = find_group_names(datamodule, pl_module)
        self._class_names: Sequence[str] | None = getattr(datamodule, "class_names", None)

    def reset(self, rnn: ALRNN, device: torch.device) -> None:
        self._kept = []
        self._looked_at = 0
        # on the device, so that no batch waits for it: class and group of each sequence that was looked at; how many
        # are kept, each with its states from the last one back, its length, class and group, and a row for all others
        self._labels = torch.zeros(0, 2, dtype=torch.int64, device=device)
        self._count = torch.zeros((), dtype=torch.int64, device=device)
        self._states = torch.zeros(_SEQUENCES + 1, 0, rnn.hidden_size, device=device)
        self._facts = torch.zeros(_SEQUENCES + 1, 3, dtype=torch.int64, device=device)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_validation_epoch_start(trainer, pl_module)
        self._keeps = trainer.is_global_zero and (self.figure_every_n_epochs > 0 or self.embeddings)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        targets = self._own(outputs, "targets")
        one_each = isinstance(targets, Tensor) and targets.ndim == 1 and not targets.is_floating_point()
        self._targets = targets if one_each else None  # for `update`, which is handed no more than the states
        super().on_validation_batch_end(trainer, pl_module, outputs, batch, batch_idx, dataloader_idx)

    def update(self, states: Tensor, lengths: Tensor, group: Tensor | None) -> None:
        if not self._keeps or self._looked_at >= _LOOKED_AT:
            return
        labels = torch.stack(
            [torch.full_like(lengths, -1) if each is None else each.long() for each in (self._targets, group)], dim=1
        )
        self._labels = torch.cat((self._labels, labels))
        sequence = torch.arange(len(self._labels), device=lengths.device)
        earlier = sequence < sequence[self._looked_at :].unsqueeze(1)
        self._looked_at += len(states)
        (classes, groups), (all_classes, all_groups) = labels.unsqueeze(2).unbind(1), self._labels.unbind(1)
        of_its_label = ((classes == all_classes) & (groups == all_groups) & earlier).sum(dim=1)
        chosen = (of_its_label < _OF_EACH_LABEL) | (labels == -1).all(dim=1)
        place = self._count + chosen.cumsum(dim=0) - 1
        place = torch.where(chosen, place, _SEQUENCES).clamp(max=_SEQUENCES)
        self._count += chosen.sum()
        if place.device.type == "cpu":  # elsewhere, to select those that are kept would wait for the device
            rows = (place < _SEQUENCES).nonzero()[:, 0]
            states, lengths, labels, place = states[rows], lengths[rows], labels[rows], place[rows]
        self._facts.index_copy_(0, place, torch.cat((lengths.unsqueeze(1), labels), dim=1))
        steps = min(states.shape[1], _STEPS)
        if steps > self._states.shape[1]:
            self._states = functional.pad(self._states, (0, 0, 0, steps - self._states.shape[1]))
        stride = (lengths + _STEPS - 1) // _STEPS
        at = (lengths - 1).unsqueeze(1) - stride.unsqueeze(1) * torch.arange(steps, device=lengths.device)
        some = states.gather(1, at.clamp(min=0).unsqueeze(2).expand(-1, -1, states.shape[2]))
        self._states[:, :steps].index_copy_(0, place, some.to(self._states))

    def compute(self, rnn: ALRNN) -> dict[str, float]:
        count = min(int(self._count), _SEQUENCES)
        states, facts = self._states[:count].cpu(), self._facts[:count].tolist()
        for row, (length, *label) in zip(states, facts, strict=True):
            at = torch.arange(length - 1, -1, -length // _STEPS).flip(0)  # the last step among them
            self._kept.append(Trajectory(row[: len(at)].flip(0), at + 1, *label))
        return super().compute(rnn)

    def figures(self) -> dict[str, Figure]:
        if not self._kept:
            return {}
        drawn = plot_trajectories(
            self._kept, self.answer, self.rnn.nonlinear_units, self._class_names, self._group_names
        )
        return {"latent/trajectories": drawn}

    @property
    def components(self) -> PrincipalComponents:
        """The principal components of the states at the last evaluation."""
        components: PrincipalComponents = self.answer
        return components

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_end(trainer, pl_module)
        self._write_embedding(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn != TrainerFn.FITTING:
            self._write_embedding(trainer)

    def _write_embedding(self, trainer: Trainer) -> None:
        if not self.embeddings or not self._kept:
            return
        stride = -(-sum(len(kept.states) for kept in self._kept) // _ROWS)
        states = torch.cat([kept.states for kept in self._kept])[::stride]
        rows = [
            [
                _name(kept.class_index, self._class_names),
                _name(kept.group_index, self._group_names),
                regime,
                str(sequence),
                str(step),
            ]
            for sequence, kept in enumerate(self._kept)
            for regime, step in zip(
                regime_names(kept.states, self.rnn.nonlinear_units),
                kept.steps.tolist(),
                strict=True,
            )
        ][::stride]
        header = ["class", "group", "regime", "sequence", "step"]
        log_embedding(trainer, f"{self.prefix}latent/states", states, header, rows)


def _name(index: int, names: Sequence[str] | None) -> str:
    """The name of a class or group, without what would end a cell of a table; "none" below 0."""
    if index < 0:
        return "none"
    return " ".join(str(names[index]).split()) if names is not None and index < len(names) else str(index)
