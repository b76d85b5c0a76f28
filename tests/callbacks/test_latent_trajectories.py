"""LatentTrajectories: what it logs, keeps, draws and writes for the projector."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_alrnn.callbacks import LatentTrajectories
from lightning_alrnn.datamodules import SCAN, Arrays
from lightning_alrnn.modules import ALRNNModule, ALRNNSeq2Seq
from lightning_alrnn.nn import ALRNN

QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "log_every_n_steps": 1,
}
KEYS = {f"latent/{name}" for name in ("pc1_variance", "pc3_variance", "participation_ratio")}


def data(size: int = 60, time: int = 7, **options: Any) -> Arrays:
    generator = torch.Generator().manual_seed(1)
    return Arrays(
        inputs=torch.randn(size, time, 2, generator=generator),
        targets=[["no", "yes\tor", "so"][index % 3] for index in range(size)],
        lengths=torch.randint(1, time + 1, (size,), generator=generator),
        train_index=range(4),
        val_index=range(4, size - 1),
        test_index=[size - 1],
        batch_size=8,
        **options,
    )


def model(nonlinear: int = 3, hidden: int = 6) -> ALRNNModule:
    torch.manual_seed(0)
    made = ALRNNModule(2, 3, hidden, nonlinear)
    with torch.no_grad():
        made.core.W.normal_(std=0.4)  # type: ignore[operator,union-attr]
        made.core.h.normal_(std=0.5)  # type: ignore[operator,union-attr]
    return made


@pytest.mark.parametrize(("nonlinear", "hidden"), [(3, 6), (0, 2), (4, 4), (1, 1)])
def test_scalars_are_those_of_all_states(nonlinear: int, hidden: int) -> None:
    made, callback = model(nonlinear, hidden), LatentTrajectories()
    (logged,) = Trainer(logger=False, callbacks=[callback], **QUIET).validate(made, data(), verbose=False)
    assert {key for key in logged if "latent" in key} == KEYS
    batch = data().build("val")
    states = made(batch.inputs, batch.lengths).states.detach().double()
    valid = torch.arange(states.shape[1]) < batch.lengths.unsqueeze(1)
    variance = np.linalg.eigvalsh(np.atleast_2d(np.cov(states[valid].T.numpy())))[::-1]
    assert logged["latent/pc1_variance"] == pytest.approx(variance[0] / variance.sum(), rel=1e-5)
    assert logged["latent/pc3_variance"] == pytest.approx(variance[:3].sum() / variance.sum(), rel=1e-5)
    assert logged["latent/participation_ratio"] == pytest.approx(variance.sum() ** 2 / (variance**2).sum(), rel=1e-5)
    assert set(callback.figures()) == {"latent/trajectories"}


def test_panels_follow_what_there_is() -> None:
    def titles(arrays: Any, made: LightningModule) -> list[str]:
        callback = LatentTrajectories()
        Trainer(logger=False, callbacks=[callback], **QUIET).validate(made, arrays, verbose=False)
        axes = callback.figures()["latent/trajectories"].axes
        return [panel.get_title().split(",")[0] for panel in axes if panel.get_title()]

    assert titles(data(), model()) == ["by class", "by regime"]
    assert titles(data(group=["a", "b"] * 30), model()) == ["by class", "by group", "by regime"]
    assert titles(loader(), Plain()) == ["by time", "by regime"]


class Plain(LightningModule):
    """A LightningModule of somebody else's."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = ALRNN(2, 5, 3)

    def validation_step(self, batch: Tensor, batch_idx: int) -> dict[str, Tensor]:
        return {"states": self.rnn(batch).states}


def loader() -> DataLoader[Tensor]:
    return DataLoader(torch.randn(9, 6, 2, generator=torch.Generator().manual_seed(0)), batch_size=4)  # type: ignore[arg-type]


class Echo(LightningModule):
    """Its states are given."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = ALRNN(2, 5, 3)

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        return batch


@pytest.mark.parametrize("labelled", [(), ("targets",), ("group",), ("targets", "group")])
def test_what_is_kept_is_the_first_of_each_class_and_group(labelled: tuple[str, ...]) -> None:
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
    callback, loader = LatentTrajectories(), DataLoader(batches, batch_size=None)  # type: ignore[arg-type]
    Trainer(logger=False, callbacks=[callback], **QUIET).validate(Echo(), loader, verbose=False)
    assert len(callback._trajectories) == len(expected)
    for kept, (states, steps, label) in zip(callback._trajectories, expected, strict=True):
        assert torch.equal(kept.states, states)
        assert (kept.steps.tolist(), (kept.class_index, kept.group_index)) == (steps, label)


def test_embeddings_are_written_as_the_projector_reads_them() -> None:
    made, logger = model(), TensorBoardLogger("runs", name=None)
    callback = LatentTrajectories(embeddings=True, figure_every_n_epochs=0)
    trainer = Trainer(max_epochs=2, logger=logger, callbacks=[callback], **QUIET)
    trainer.fit(made, data(size=200, time=300, group=["a", "b"] * 100))
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
    signs = ["".join("01"[int(value > 0)] for value in point[3:]) for point in points]
    assert [row[2] for row in cells] == signs
    assert not (folder / "figures").exists()


def test_each_network_of_several_has_its_own() -> None:
    torch.manual_seed(0)
    made = ALRNNSeq2Seq(14, 7, 6, 3, 2, embedding_size=4)
    callbacks = [LatentTrajectories(module=name) for name in ("encoder", "decoder")]
    trainer = Trainer(logger=False, limit_val_batches=2, callbacks=callbacks, **QUIET)  # type: ignore[arg-type]
    (logged,) = trainer.validate(made, SCAN(batch_size=8), verbose=False)
    assert {key for key in logged if "latent" in key} == {f"{n}/{key}" for n in ("encoder", "decoder") for key in KEYS}


def test_states_that_do_not_vary_or_are_not_finite() -> None:
    still, broken = model(), model()
    with torch.no_grad():
        for parameter in (still.core.W, still.core.C, still.core.h):  # type: ignore[union-attr]
            parameter.zero_()  # type: ignore[operator]
        broken.core.W.fill_(math.nan)  # type: ignore[operator,union-attr]
    for made in (still, broken):
        trainer = Trainer(logger=CSVLogger("csv"), callbacks=[LatentTrajectories()], **QUIET)
        (logged,) = trainer.validate(made, data(), verbose=False)
        assert all(math.isnan(logged[key]) for key in KEYS)
        callback = trainer.callbacks[0]  # type: ignore[attr-defined]
        assert set(callback.figures()) == {"latent/trajectories"}
