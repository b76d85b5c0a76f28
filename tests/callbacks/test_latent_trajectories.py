"""LatentTrajectories: what it logs, stores, draws and writes for the projector."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from observed import QUIET, Plain, Store, arrays, model, plain_loader, still, validated
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_alrnn.callbacks import LatentTrajectories
from lightning_alrnn.datamodules import Arrays
from lightning_alrnn.readings import LatentDimensions

KEYS = {key.name for key in LatentDimensions.keys}


def named(size: int = 60, time: int = 7, **options: Any) -> Arrays:
    """Sequences of classes with names."""
    return arrays(size, time, targets=[["no", "yes\tor", "so"][index % 3] for index in range(size)], **options)


@pytest.mark.parametrize(("nonlinear", "hidden"), [(3, 6), (0, 2), (4, 4), (1, 1)])
def test_scalars_are_those_of_all_states(nonlinear: int, hidden: int) -> None:
    store = Store()
    logged = validated(model(nonlinear, hidden), named(), LatentTrajectories(), store)
    states, lengths = store.all_of("states").double(), store.all_of("lengths")
    valid = torch.arange(states.shape[1]) < lengths.unsqueeze(1)
    variance = np.linalg.eigvalsh(np.atleast_2d(np.cov(states[valid].T.numpy())))[::-1]
    assert logged["latent/pc1_variance"] == pytest.approx(variance[0] / variance.sum(), rel=1e-5)
    assert logged["latent/pc3_variance"] == pytest.approx(variance[:3].sum() / variance.sum(), rel=1e-5)
    assert logged["latent/participation_ratio"] == pytest.approx(variance.sum() ** 2 / (variance**2).sum(), rel=1e-5)


def test_panels_follow_what_there_is() -> None:
    for module, data, titles in (
        (model(), named(), ["by class", "by regime"]),
        (model(), named(group=["a", "b"] * 30), ["by class", "by group", "by regime"]),
        (Plain(), plain_loader(), ["by time", "by regime"]),
    ):
        callback = LatentTrajectories()
        validated(module, data, callback)  # type: ignore[arg-type]
        axes = callback.figures()["latent/trajectories"].axes
        assert [panel.get_title().split(",")[0] for panel in axes if panel.get_title()] == titles


class Echo(Plain):
    """A module whose output is its batch."""

    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        return batch


@pytest.mark.parametrize("labelled", [(), ("targets",), ("group",), ("targets", "group")])
def test_the_first_sequences_of_each_class_and_group_are_stored(labelled: tuple[str, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    batches, expected, count = [], list[tuple[Tensor, list[int], tuple[int, int]]](), Counter[tuple[int, int]]()
    for size, time in ((30, 7), (40, 450), (1, 1), (60, 201), (50, 400)):
        batch = {"states": torch.randn(size, time, 5, generator=generator)}
        batch["lengths"] = torch.randint(1, time + 1, (size,), generator=generator)
        batch |= {name: torch.randint(0, 3, (size,), generator=generator) for name in labelled}
        batches.append(batch)
        for row in range(size):
            label = tuple(int(batch[name][row]) if name in labelled else -1 for name in ("targets", "group"))
            if len(expected) < 128 and (not labelled or count[label] < 16):  # type: ignore[index]
                count[label] += 1  # type: ignore[index]
                length = int(batch["lengths"][row])
                steps = list(range(length, 0, -math.ceil(length / 200)))[::-1]
                expected.append((batch["states"][row, [step - 1 for step in steps]], steps, label))  # type: ignore[arg-type]
    callback = LatentTrajectories()
    validated(Echo(), DataLoader(batches, batch_size=None), callback)  # type: ignore[arg-type]
    assert len(callback._trajectories) == len(expected)
    for trajectory, (states, steps, label) in zip(callback._trajectories, expected, strict=True):
        assert torch.equal(trajectory.states, states)
        assert (trajectory.steps.tolist(), (trajectory.class_index, trajectory.group_index)) == (steps, label)


def test_embeddings_are_written_as_the_projector_reads_them() -> None:
    logger = TensorBoardLogger("runs", name=None)
    callback = LatentTrajectories(embeddings=True, figure_every_n_epochs=0)
    trainer = Trainer(max_epochs=2, logger=logger, callbacks=[callback], **QUIET)
    trainer.fit(model(), named(size=200, time=300, group=["a", "b"] * 100))
    folder = Path(logger.log_dir)
    step = f"{trainer.global_step:05d}"
    config = (folder / "projector_config.pbtxt").read_text()
    assert f'tensor_path: "{step}/latent_states/tensors.tsv"' in config
    assert f'metadata_path: "{step}/latent_states/metadata.tsv"' in config
    points = np.loadtxt(folder / step / "latent_states" / "tensors.tsv", delimiter="\t")
    header, *rows = (folder / step / "latent_states" / "metadata.tsv").read_text().splitlines()
    assert header.split("\t") == ["class", "group", "regime", "sequence", "step"]
    assert points.shape == (len(rows), 6)
    assert 2000 < len(rows) <= 5000
    cells = [row.split("\t") for row in rows]
    assert {row[0] for row in cells} == {"no", "so", "yes or"}
    assert {row[1] for row in cells} == {"a", "b"}
    assert [row[2] for row in cells] == ["".join("01"[int(value > 0)] for value in point[3:]) for point in points]
    assert not (folder / "figures").exists()


@pytest.mark.parametrize("made", [still(), model(W=math.nan)])
def test_states_that_do_not_vary_or_are_not_finite(made: LightningModule) -> None:
    callback = LatentTrajectories()
    logged = validated(made, named(), callback)
    assert all(math.isnan(logged[key]) for key in KEYS)
    assert set(callback.figures()) == {"latent/trajectories"}
