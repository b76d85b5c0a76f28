"""The Spectrum callback: what it logs, against brute force on stored states, on one and on two processes."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from sklearn.decomposition import PCA
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from lightning_alrnn.callbacks import Spectrum
from lightning_alrnn.datamodules import SCAN, Arrays
from lightning_alrnn.modules import ALRNNModule, ALRNNSeq2Seq
from lightning_alrnn.nn import ALRNN

QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "log_every_n_steps": 1,
}
KEYS = {
    f"spectrum/{name}"
    for name in [
        "max_modulus",
        "slowest_timescale",
        "slowest_eigenvalue_real",
        "slowest_eigenvalue_imag",
        "pc1_angle",
        "pc1_variance",
    ]
}


def data(size: int = 23) -> Arrays:
    generator = torch.Generator().manual_seed(1)
    return Arrays(
        inputs=torch.randn(size, 7, 2, generator=generator),
        targets=torch.randint(0, 3, (size,), generator=generator),
        lengths=torch.randint(1, 8, (size,), generator=generator),
        train_index=range(4),
        val_index=range(4, size - 1),
        test_index=[size - 1],
        batch_size=4,
    )


def model(nonlinear: int = 3, **options: Any) -> ALRNNModule:
    torch.manual_seed(0)
    made = ALRNNModule(2, 3, 6, nonlinear, **options)
    if isinstance(made.core, ALRNN):
        with torch.no_grad():
            made.core.W.normal_(std=0.5)
            made.core.h.normal_(std=0.5)
    return made


class Store(Callback):
    """Keeps all valid states of validation."""

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.states: list[Tensor] = []

    def on_validation_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, *args: Any) -> None:
        self.states += [z[:length] for z, length in zip(outputs["states"], outputs["lengths"].tolist(), strict=True)]


def expected_scalars(states: list[Tensor], rnn: ALRNN, by_hand: Callable[..., Any]) -> dict[str, float]:
    """By scikit-learn and loops over regimes and eigenvalues."""
    lengths = torch.tensor([len(part) for part in states])
    padded = torch.nn.utils.rnn.pad_sequence(states, batch_first=True)
    counts = by_hand(padded, lengths, rnn.nonlinear_units).counts
    spectra = []
    # of regimes visited equally often, the one with the lower code comes first; the first unit is its lowest bit
    for code in sorted(counts, key=lambda code: (-counts[code], code[::-1]))[:16]:
        with torch.no_grad():
            matrix = rnn.double().regime_matrix(torch.tensor([bit == "1" for bit in code])).numpy()
        spectra.append(np.linalg.eig(matrix))
    values, vectors = spectra[0]
    slowest = min(range(len(values)), key=lambda index: abs(math.log(abs(values[index]))))
    value, vector = values[slowest], vectors[:, slowest]
    pca = PCA(svd_solver="full").fit(torch.cat(states).double().numpy())
    leading = pca.components_[0]
    span = np.stack([vector.real, vector.imag], axis=1)[:, : 2 if value.imag else 1]
    projected = span @ np.linalg.lstsq(span, leading, rcond=None)[0]
    return {
        "spectrum/max_modulus": max(float(np.abs(part.eigenvalues).max()) for part in spectra),
        "spectrum/slowest_timescale": -1 / math.log(abs(value)),
        "spectrum/slowest_eigenvalue_real": value.real,
        "spectrum/slowest_eigenvalue_imag": abs(value.imag),
        "spectrum/pc1_angle": math.degrees(math.acos(min(1.0, np.linalg.norm(projected)))),
        "spectrum/pc1_variance": pca.explained_variance_ratio_[0],
    }


@pytest.mark.parametrize("nonlinear", [0, 3, 6])
def test_scalars_equal_brute_force_on_stored_states(by_hand: Callable[..., Any], nonlinear: int) -> None:
    store, made = Store(), model(nonlinear)
    trainer = Trainer(logger=False, callbacks=[Spectrum(), store], **QUIET)
    (logged,) = trainer.validate(made, data(), verbose=False)
    assert {key for key in logged if key.startswith("spectrum")} == KEYS
    assert isinstance(made.core, ALRNN)
    for key, value in expected_scalars(store.states, made.core, by_hand).items():
        assert logged[key] == pytest.approx(value, rel=1e-4, abs=1e-6), key


def validate(world_size: int) -> dict[str, float]:
    trainer = Trainer(
        logger=False,
        callbacks=[Spectrum()],
        devices=world_size,
        strategy="ddp",
        use_distributed_sampler=False,
        **QUIET,
    )
    (logged,) = trainer.validate(model(), data(), verbose=False)
    return {key: float(value) for key, value in logged.items()}


def start(rank: int, world_size: int) -> dict[str, float]:
    # the process group is up already; Lightning learns from the environment which process this is
    os.environ |= {
        "LOCAL_RANK": str(rank),
        "NODE_RANK": "0",
        "WORLD_SIZE": str(world_size),
        "RANK": str(rank),
        "TORCHELASTIC_RUN_ID": "test",
        "GROUP_RANK": "0",
        "LOCAL_WORLD_SIZE": str(world_size),
    }
    return validate(world_size)


@pytest.mark.filterwarnings("ignore:Using `DistributedSampler` with the dataloaders:UserWarning")
def test_two_processes_log_what_one_does(processes: Callable[..., list[Any]], tmp_path: Path) -> None:
    (alone,) = Trainer(logger=False, callbacks=[Spectrum()], **QUIET).validate(model(), data(), verbose=False)
    assert set(alone) >= KEYS
    for logged in processes(start, tmp_path):
        assert set(logged) == set(alone)
        for key, value in alone.items():
            assert logged[key] == pytest.approx(value, rel=1e-5, abs=1e-6), key


def test_every_scalar_and_figure_is_in_the_event_file() -> None:
    logger = TensorBoardLogger("runs", name=None)
    trainer = Trainer(max_epochs=4, logger=logger, callbacks=[Spectrum(figure_every_n_epochs=2)], **QUIET)
    trainer.fit(model(), data())
    events = EventAccumulator(logger.log_dir, size_guidance={"images": 0, "scalars": 0})
    events.Reload()
    for key in KEYS:
        assert len(events.Scalars(key)) == 4, key
    assert set(events.Tags()["images"]) == {"spectrum/slowest_mode"}
    files = {path.name for path in (Path(logger.log_dir) / "figures").iterdir()}
    assert files == {f"spectrum_slowest_mode-epoch={epoch:03d}.png" for epoch in (1, 3)}


def test_each_network_of_several_has_its_own() -> None:
    torch.manual_seed(0)
    made = ALRNNSeq2Seq(14, 7, 6, 3, 2, embedding_size=4)
    callbacks: list[Callback] = [Spectrum(module=name) for name in ("encoder", "decoder")]
    trainer = Trainer(logger=False, limit_val_batches=2, callbacks=callbacks, **QUIET)
    (logged,) = trainer.validate(made, SCAN(batch_size=8), verbose=False)
    assert {key for key in logged if "spectrum" in key} == {
        f"{n}/{key}" for n in ("encoder", "decoder") for key in KEYS
    }
    assert logged["encoder/spectrum/pc1_angle"] != logged["decoder/spectrum/pc1_angle"]


def test_a_core_without_regimes_is_an_error() -> None:
    trainer = Trainer(max_epochs=1, logger=False, callbacks=[Spectrum()], **QUIET)
    with pytest.raises(MisconfigurationException, match="Spectrum looks at the regimes of an ALRNN"):
        trainer.fit(model(core="GRU"), data())


def test_a_network_that_has_diverged_leaves_the_verdict_to_the_module() -> None:
    broken = model()
    with torch.no_grad():
        broken.core.W.fill_(math.nan)  # type: ignore[operator,union-attr]
    (logged,) = Trainer(logger=CSVLogger("csv"), callbacks=[Spectrum()], **QUIET).validate(broken, data())
    assert all(math.isnan(logged[key]) for key in KEYS)


def test_states_that_do_not_vary_or_overflow() -> None:
    still, exploding = model(), model()
    with torch.no_grad():
        for parameter in (still.core.W, still.core.C, still.core.h):  # type: ignore[union-attr]
            parameter.zero_()  # type: ignore[operator]
        exploding.core.W.fill_(1e15)  # type: ignore[operator,union-attr]
    for made in (still, exploding):
        callback = Spectrum()
        (logged,) = Trainer(logger=False, callbacks=[callback], **QUIET).validate(made, data(), verbose=False)
        assert math.isnan(logged["spectrum/pc1_angle"])
        assert math.isnan(logged["spectrum/pc1_variance"])
        assert not math.isnan(logged["spectrum/max_modulus"])
        assert set(callback.figures()) == {"spectrum/slowest_mode"}


@pytest.mark.filterwarnings("ignore:You are trying to `self.log:UserWarning")  # Lightning, of a step without a Trainer
def test_scalars_lie_on_the_device_of_the_module(monkeypatch: pytest.MonkeyPatch) -> None:
    """NCCL reduces nothing that lies on the CPU; the meta device stands in for an accelerator here."""
    logged: dict[str, Tensor] = {}
    made, watched = model(), Spectrum(figure_every_n_epochs=0)
    trainer = Trainer(logger=False, **QUIET)
    watched.setup(trainer, made, "validate")
    watched.on_validation_epoch_start(trainer, made)
    outputs = made.validation_step(data().build("val"), 0)
    watched.on_validation_batch_end(trainer, made, outputs, None, 0)
    monkeypatch.setattr(type(made), "device", torch.device("meta"))
    monkeypatch.setattr(made, "log", lambda key, value, **options: logged.update({key: value}))
    watched.on_validation_epoch_end(trainer, made)
    assert set(logged) == KEYS
    assert all(value.device.type == "meta" for value in logged.values())
