"""A small network on small data, for the tests of callbacks: what they log, and on two processes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_alrnn import callbacks
from lightning_alrnn.datamodules import Arrays
from lightning_alrnn.modules import ALRNNModule
from lightning_alrnn.nn import ALRNN

KINDS: tuple[type[callbacks.StatesCallback], ...] = (
    callbacks.RegimeOccupancy,
    callbacks.ActiveUnits,
    callbacks.FixedPoints,
    callbacks.Spectrum,
    callbacks.LatentTrajectories,
)
QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "log_every_n_steps": 1,
}


def arrays(size: int = 23, time: int = 7, *, seed: int = 1, train: int = 4, **options: Any) -> Arrays:
    """Random sequences, the first ones for training and the last one for the test."""
    generator = torch.Generator().manual_seed(seed)
    if "targets" not in options:
        options.setdefault("num_classes", 3)  # few sequences may lack a class, of which a training warns
    return Arrays(
        inputs=torch.randn(size, time, 2, generator=generator),
        targets=options.pop("targets", torch.randint(0, 3, (size,), generator=generator)),
        lengths=torch.randint(1, time + 1, (size,), generator=generator),
        train_index=range(train),
        val_index=range(train, size - 1),
        test_index=[size - 1],
        batch_size=4,
        **options,
    )


def model(nonlinear: int = 3, hidden: int = 6, *, seed: int = 0, W: float | None = None, **options: Any) -> ALRNNModule:
    """A classifier with random dynamics, or with all entries of W equal to a number."""
    torch.manual_seed(seed)
    made = ALRNNModule(2, 3, hidden, nonlinear, **options)
    if isinstance(made.core, ALRNN):
        with torch.no_grad():
            made.core.W.normal_(std=0.5) if W is None else made.core.W.fill_(W)
            made.core.h.normal_(std=0.5)
    return made


def still() -> ALRNNModule:
    """A network whose states do not vary."""
    made = model(W=0.0)
    with torch.no_grad():
        _ = made.core.C.zero_(), made.core.h.zero_()  # type: ignore[operator,union-attr]
    return made


class Plain(LightningModule):
    """A LightningModule of somebody else, which takes inputs alone and returns nothing but states."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.rnn = ALRNN(2, 5, 3)
        torch.nn.init.normal_(self.rnn.W, std=0.5)

    def validation_step(self, batch: Tensor, batch_idx: int) -> dict[str, Tensor]:
        return {"states": self.rnn(batch).states}

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return self.rnn(batch).states.square().mean()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def plain_loader() -> DataLoader[Tensor]:
    return DataLoader(torch.randn(9, 6, 2, generator=torch.Generator().manual_seed(0)), batch_size=4)  # type: ignore[arg-type]


class Store(Callback):
    """Stores all states of validation."""

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.outputs: list[Any] = []

    def on_validation_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, *args: Any) -> None:
        self.outputs.append(outputs)

    def all_of(self, name: str, network: str | None = None) -> Tensor:
        return torch.cat([output[name] if network is None else output[name][network] for output in self.outputs])


def validated(
    module: LightningModule, data: Any, *looks: Callback, function: str = "validate", **options: Any
) -> dict[str, float]:
    """The values that a validation or a test logs."""
    trainer = Trainer(**{"logger": False, "callbacks": list(looks), **QUIET, **options})
    (logged,) = getattr(trainer, function)(module, data, verbose=False)
    return {key: float(value) for key, value in logged.items()}


def validated_on(rank: int, world_size: int, module: LightningModule, data: Any, *looks: Callback) -> Any:
    """The same on one of several processes, whose process group is up already."""
    os.environ |= {  # from which Lightning learns the process that this is
        "LOCAL_RANK": str(rank),
        "NODE_RANK": "0",
        "WORLD_SIZE": str(world_size),
        "RANK": str(rank),
        "TORCHELASTIC_RUN_ID": "test",
        "GROUP_RANK": "0",
        "LOCAL_WORLD_SIZE": str(world_size),
    }
    ddp: dict[str, Any] = {"devices": world_size, "strategy": "ddp", "use_distributed_sampler": False}
    return validated(module, data, *looks, **ddp)


def rows_of(logger: Any, key: str) -> list[tuple[int, float]]:
    """Epochs and values of a key in the file of a CSVLogger."""
    header, *rows = [row.split(",") for row in (Path(logger.log_dir) / "metrics.csv").read_text().splitlines()]
    epoch, column = header.index("epoch"), header.index(key)
    return [(int(row[epoch]), float(row[column])) for row in rows if row[column]]


def figure_files(logger: Any) -> set[str]:
    return {path.name for path in (Path(logger.log_dir) / "figures").iterdir()}
