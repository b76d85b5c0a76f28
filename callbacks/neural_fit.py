"""Modelled and recorded spikes."""

from __future__ import annotations

import copy

import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from matplotlib.figure import Figure
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor

from lightning_alrnn.analysis.neural import SpikeStatistics
from lightning_alrnn.batch import NeuralBatch
from lightning_alrnn.callbacks.base import StatesCallback
from lightning_alrnn.metrics.neural import ConditionAverages, SpikeAgreement
from lightning_alrnn.nn.alrnn import ALRNN
from lightning_alrnn.nn.observation import Observation
from lightning_alrnn.plotting.neural import ExampleTrial, plot_neural_fit, plot_spike_agreement
from lightning_alrnn.readings import SpikeFit


class NeuralFit(StatesCallback):
    """Logs the key of :class:`~lightning_alrnn.readings.SpikeFit`: agreement of modelled and recorded spikes.

    The figure ``neural/fit`` shows for each condition a recorded trial, a trial drawn from the model with the same
    inputs, the mean counts of both, and the visited regimes; ``neural/agreement`` shows rates, coefficients of
    variation and Fano factors of model and data.

    The LightningModule has an ``observation``, an :class:`Observation`, and a ``validation_step`` as in
    :class:`StatesCallback` on :class:`NeuralBatch`, as :class:`ALRNNNeural` does. The conditions are the groups of
    trials; without ``group_names`` all trials belong to one. Figures of ``simulated`` spikes of a DataModule say so.

    Args:
        max_steps: Number of bins from the start of a trial that are compared.
        every_n_epochs: Number of epochs between two evaluations.
        figure_every_n_epochs: Number of epochs between two figures, 0 for none.

    Raises:
        ValueError: If ``max_steps`` is less than 1.
        MisconfigurationException: In ``setup``, if the LightningModule holds no ALRNN or has no ``observation``.
    """

    def __init__(self, max_steps: int = 100, every_n_epochs: int = 1, figure_every_n_epochs: int = 25) -> None:
        super().__init__(every_n_epochs, figure_every_n_epochs)
        if max_steps < 1:
            raise ValueError(f"max_steps must be at least 1 bin, got {max_steps}")
        self.max_steps = max_steps

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        observation = getattr(pl_module, "observation", None)
        if not isinstance(observation, Observation):
            raise MisconfigurationException(
                f"NeuralFit needs {type(pl_module).__name__}.observation to be an Observation, such as a "
                f"PoissonObservation, got {type(observation).__name__}: use ALRNNNeural, set one, or leave this "
                "callback out"
            )
        self._observation: Observation = observation
        simulated = getattr(getattr(trainer, "datamodule", None), "simulated", False)
        self._data = "simulated" if simulated else "recorded"

    def reset(self, rnn: ALRNN, device: torch.device) -> None:
        units, names = self._observation.readout.out_features, self._group_names or ()
        conditions = max(len(names), 1)
        self._averages = ConditionAverages(conditions, units, rnn.nonlinear_units, self.max_steps).to(device)
        self._agreement = SpikeAgreement(units, len(names)).to(device)
        self._examples: dict[int, ExampleTrial] = {}
        # of the first trial of each condition, on the device: they are read at the end of the epoch
        self._steps = torch.zeros(conditions, dtype=torch.int64, device=device)
        self._recorded, self._rates = torch.zeros(2, conditions, self.max_steps, units, device=device).unbind()

    @torch.no_grad()
    def update(self, states: Tensor, lengths: Tensor, group: Tensor | None) -> None:
        """Add a batch.

        Raises:
            MisconfigurationException: If the batch is not a :class:`NeuralBatch`.
        """
        if not isinstance(self._batch, NeuralBatch):
            raise MisconfigurationException(
                f"NeuralFit compares spikes: a batch must be a NeuralBatch, got {type(self._batch).__name__}"
            )
        spikes = self._batch.spikes
        group = group if self._group_names else None
        rates = self._observation.mean(states)
        self._averages.update(spikes, rates, states, lengths, group)
        self._agreement.update(spikes, rates, self._observation.variance_of(rates), lengths, group)
        if self.figure_every_n_epochs:
            self._store_examples(spikes, rates, lengths, group)

    def compute(self, rnn: ALRNN) -> dict[str, float]:
        self.result: dict[str, Tensor] = self._averages.compute()
        self.statistics: SpikeStatistics = self._agreement.statistics()
        if self.figure_every_n_epochs:
            self._draw_examples()
        return {SpikeFit.keys[0].name: float(self.result["psth_correlation"])}

    def figures(self) -> dict[str, Figure]:
        examples = list(self._examples.values())
        return {
            "neural/fit": plot_neural_fit(self.result, examples, self._group_names, data=self._data),
            "neural/agreement": plot_spike_agreement(self.statistics, data=self._data),
        }

    def _store_examples(self, spikes: Tensor, rates: Tensor, lengths: Tensor, group: Tensor | None) -> None:
        """Store the first trial of each condition that has none yet."""
        conditions = torch.arange(len(self._steps), device=lengths.device)
        belongs = conditions.unsqueeze(1) == (torch.zeros_like(lengths) if group is None else group)
        new, first = (self._steps == 0) & belongs.any(dim=1), belongs.int().argmax(dim=1)
        self._steps = torch.where(new, lengths[first], self._steps)
        steps, new = min(spikes.shape[1], self.max_steps), new.view(-1, 1, 1)
        for values, stored in ((spikes, self._recorded), (rates, self._rates)):
            stored[:, :steps] = torch.where(new, values[first, :steps].to(stored), stored[:, :steps])

    def _draw_examples(self) -> None:
        """Draw spikes for the stored trials, on the CPU: the same in every epoch and on every device."""
        observation = copy.deepcopy(self._observation).cpu()
        recorded, rates = self._recorded.cpu(), self._rates.cpu()
        for condition, steps in enumerate(self._steps.tolist()):
            if steps:
                generator = torch.Generator().manual_seed(condition)
                drawn = observation.sample_of(rates[condition, :steps], generator)
                self._examples[condition] = ExampleTrial(condition, recorded[condition, :steps], drawn)
