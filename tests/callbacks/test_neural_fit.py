"""The callback that compares spikes: its number, its figures, what it asks of a LightningModule."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from matplotlib.text import Text
from observed import validated
from pytorch_lightning import LightningModule
from torch.utils.data import DataLoader

from lightning_alrnn.batch import NeuralBatch, SequenceBatch
from lightning_alrnn.callbacks import NeuralFit
from lightning_alrnn.datamodules import StimulusSelection
from lightning_alrnn.datamodules.base import SequenceDataset, collate
from lightning_alrnn.modules import ALRNNNeural
from lightning_alrnn.nn import ALRNN, PoissonObservation

B, T, N = 9, 6, 4


class Mine(LightningModule):
    """A LightningModule of one's own, without a loss: what the callback needs and no more."""

    def __init__(self, names: list[str] | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.rnn = ALRNN(2, 3, 1)
        self.observation = PoissonObservation(3, N)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.normal_()
        self.group_names = names

    def validation_step(self, batch: NeuralBatch, batch_idx: int) -> dict[str, Any]:
        states = self.rnn(batch.inputs, lengths=batch.lengths).states
        return {"states": states, "lengths": batch.lengths, "group": batch.group}


def batch_of(grouped: bool = True) -> NeuralBatch:
    generator = torch.Generator().manual_seed(1)
    lengths = torch.tensor([6, 1, 4, 3, 6, 2, 5, 6, 6])
    valid = (torch.arange(T) < lengths[:, None])[..., None]
    return NeuralBatch(
        torch.randn(B, T, 2, generator=generator) * valid,
        torch.poisson(torch.full((B, T, N), 1.5), generator) * valid,
        torch.zeros(B, dtype=torch.int64),
        lengths,
        torch.tensor([0, 2, 0, 0, 2, 2, 0, 7, 0]) if grouped else None,
    )


def loader(batch: Any) -> DataLoader[Any]:
    return DataLoader(SequenceDataset(batch), batch_size=4, collate_fn=collate)


@pytest.mark.parametrize("grouped", [True, False])
def test_number_and_figures(grouped: bool) -> None:
    names = ["left", "never", "right"] if grouped else None
    module, callback, batch = Mine(names), NeuralFit(), batch_of(grouped)
    logged = validated(module, loader(batch), callback)
    with torch.no_grad():
        rates = module.observation.mean(module.rnn(batch.inputs, lengths=batch.lengths).states)
    pairs: list[tuple[Any, Any]] = []
    for condition in (0, 2) if grouped else (0,):
        for t in range(T):
            rows = [b for b in range(B) if batch.lengths[b] > t and (not grouped or batch.group[b] == condition)]  # type: ignore[index]
            pairs.append((batch.spikes[rows, t].mean(0).numpy(), rates[rows, t].mean(0).numpy()))
    expected = np.corrcoef(*(np.concatenate(column) for column in zip(*pairs, strict=True)))[0, 1]
    assert logged == {"neural/psth_correlation": pytest.approx(expected, rel=1e-4)}
    figures = callback.figures()
    assert set(figures) == {"neural/fit", "neural/agreement"}
    panels = figures["neural/fit"].axes
    if grouped:
        assert [axes.get_ylabel() for axes in panels[0:10:5]] == ["left\nunit, by rate", "right\nunit, by rate"]
    # the first trial of each condition is shown, its end shaded
    first = panels[0].images[0].get_array()
    order = np.argsort(-np.nanmean(callback.result["spikes"].numpy(), axis=(0, 1)), kind="stable")
    np.testing.assert_array_equal(first, batch.spikes[0].numpy()[:, order].T)
    again = callback._examples[0].drawn
    validated(module, loader(batch), callback)
    assert torch.equal(callback._examples[0].drawn, again)


def test_what_it_asks_for() -> None:
    module = Mine()
    del module.observation
    with pytest.raises(MisconfigurationException, match=r"NeuralFit needs Mine.observation to be an Observation"):
        validated(module, loader(batch_of()), NeuralFit())
    other = SequenceBatch(torch.zeros(4, T, 2), torch.zeros(4), torch.full((4,), T))
    with pytest.raises(MisconfigurationException, match="a batch must be a NeuralBatch, got SequenceBatch"):
        validated(Mine(), loader(other), NeuralFit())
    with pytest.raises(ValueError, match="max_steps must be at least 1 bin, got 0"):
        NeuralFit(max_steps=0)


def test_simulated_spikes_are_called_so() -> None:
    data = StimulusSelection(neural=True, units=N, train_size=2, val_size=4, test_size=2)
    callback = NeuralFit()
    validated(ALRNNNeural(8, 3, N, group_names=data.group_names), data, callback)
    for figure in callback.figures().values():
        words = " ".join(text.get_text() for text in figure.findobj(Text))
        assert "simulated" in words
        assert "recorded" not in words


def test_later_bins_are_left_out() -> None:
    callback = NeuralFit(max_steps=2)
    validated(Mine(), loader(batch_of()), callback)
    assert callback.result["spikes"].shape == (1, 2, N)
    assert len(callback._examples[0].spikes) == 2
