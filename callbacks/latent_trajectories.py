"""Trajectories in the plane of their principal components."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from matplotlib.figure import Figure
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor
from torch.nn import functional

from lightning_alrnn.analysis.spectrum import PrincipalComponents
from lightning_alrnn.callbacks.base import ReadingCallback
from lightning_alrnn.callbacks.figures import log_embedding
from lightning_alrnn.nn.alrnn import ALRNN
from lightning_alrnn.plotting.trajectories import Trajectory, plot_trajectories, regime_names
from lightning_alrnn.readings import LatentDimensions

_MOST_SEQUENCES = 128
_MOST_PER_LABEL = 16
_MOST_EXAMINED = 2048
_MOST_STEPS = 200
_MOST_ROWS = 5000


class LatentTrajectories(ReadingCallback):
    """Logs the keys of :class:`~lightning_alrnn.readings.LatentDimensions`: the principal components of the states.

    The figure ``latent/trajectories`` shows up to 128 sequences of the first process in the plane of the components: of
    its first 2048 sequences the first 16 of each class and group, with up to 200 steps each. They are coloured by class
    and group (or by time without these), and by regime.

    Classes are the ``"targets"``, int64 of shape ``(batch,)``, in the output of ``validation_step``, and have the
    ``class_names`` of the DataModule. See :class:`StatesCallback` for the LightningModule that it needs.

    Args:
        embeddings: Whether to write up to 5000 states of these sequences for TensorBoard's projector, with their class,
            group, regime, sequence and step. They are written at the end of a training run, and after each validation
            outside of one.
        every_n_epochs: Number of epochs between two evaluations.
        figure_every_n_epochs: Number of epochs between two figures, 0 for none.
        module: Name of the ALRNN if the LightningModule has several; it is put in front of the keys.

    Attributes:
        answer: The :class:`PrincipalComponents` of the states at the last evaluation.
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
        self._collects = False
        self._trajectories: list[Trajectory] = []

    def reset(self, rnn: ALRNN, device: torch.device) -> None:
        self._trajectories = []
        self._examined = 0
        # on the device, so that no batch waits for it: class and group of each examined sequence; the number of chosen
        # ones, each with its states from the last one back, its length, class and group, and a row for all others
        self._labels = torch.zeros(0, 2, dtype=torch.int64, device=device)
        self._count = torch.zeros((), dtype=torch.int64, device=device)
        self._states = torch.zeros(_MOST_SEQUENCES + 1, 0, rnn.hidden_size, device=device)
        self._facts = torch.zeros(_MOST_SEQUENCES + 1, 3, dtype=torch.int64, device=device)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_validation_epoch_start(trainer, pl_module)
        self._collects = trainer.is_global_zero and (self.figure_every_n_epochs > 0 or self.embeddings)

    def update(self, states: Tensor, lengths: Tensor, group: Tensor | None) -> None:
        if not self._collects or self._examined >= _MOST_EXAMINED:
            return
        targets = self._classes_of(self._outputs, lengths)
        labels = torch.stack(
            [torch.full_like(lengths, -1) if each is None else each.long() for each in (targets, group)], dim=1
        )
        self._labels = torch.cat((self._labels, labels))
        sequence = torch.arange(len(self._labels), device=lengths.device)
        earlier = sequence < sequence[self._examined :].unsqueeze(1)
        self._examined += len(states)
        same_label = (labels.unsqueeze(1) == self._labels).all(dim=2)
        chosen = ((same_label & earlier).sum(dim=1) < _MOST_PER_LABEL) | (labels == -1).all(dim=1)
        place = self._count + chosen.cumsum(dim=0) - 1
        place = torch.where(chosen, place, _MOST_SEQUENCES).clamp(max=_MOST_SEQUENCES)
        self._count += chosen.sum()
        if place.device.type == "cpu":  # elsewhere, to select the chosen ones would wait for the device
            rows = (place < _MOST_SEQUENCES).nonzero()[:, 0]
            states, lengths, labels, place = states[rows], lengths[rows], labels[rows], place[rows]
        self._facts.index_copy_(0, place, torch.cat((lengths.unsqueeze(1), labels), dim=1))
        steps = min(states.shape[1], _MOST_STEPS)
        if steps > self._states.shape[1]:
            self._states = functional.pad(self._states, (0, 0, 0, steps - self._states.shape[1]))
        stride = (lengths + _MOST_STEPS - 1) // _MOST_STEPS
        at = (lengths - 1).unsqueeze(1) - stride.unsqueeze(1) * torch.arange(steps, device=lengths.device)
        some = states.gather(1, at.clamp(min=0).unsqueeze(2).expand(-1, -1, states.shape[2]))
        self._states[:, :steps].index_copy_(0, place, some.to(self._states))

    def compute(self, rnn: ALRNN) -> dict[str, float]:
        count = min(int(self._count), _MOST_SEQUENCES)
        states, facts = self._states[:count].cpu(), self._facts[:count].tolist()
        for row, (length, *label) in zip(states, facts, strict=True):
            at = torch.arange(length - 1, -1, -length // _MOST_STEPS).flip(0)  # the last step among them
            self._trajectories.append(Trajectory(row[: len(at)].flip(0), at + 1, *label))
        return super().compute(rnn)

    def figures(self) -> dict[str, Figure]:
        if not self._trajectories:
            return {}
        figure = plot_trajectories(
            self._trajectories, self.answer, self.rnn.nonlinear_units, self._class_names, self._group_names
        )
        return {"latent/trajectories": figure}

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
        if not self.embeddings or not self._trajectories:
            return
        states = torch.cat([trajectory.states for trajectory in self._trajectories])
        rows = []
        for sequence, trajectory in enumerate(self._trajectories):
            labels = _name(trajectory.class_index, self._class_names), _name(trajectory.group_index, self._group_names)
            regimes = regime_names(trajectory.states, self.rnn.nonlinear_units)
            for regime, step in zip(regimes, trajectory.steps.tolist(), strict=True):
                rows.append([*labels, regime, str(sequence), str(step)])
        stride = -(-len(states) // _MOST_ROWS)
        header = ["class", "group", "regime", "sequence", "step"]
        log_embedding(trainer, f"{self.prefix}latent/states", states[::stride], header, rows[::stride])


def _name(index: int, names: Sequence[str] | None) -> str:
    """The name of a class or group, without characters that end a cell of a table; "none" below 0."""
    if index < 0:
        return "none"
    return " ".join(str(names[index]).split()) if names is not None and index < len(names) else str(index)
