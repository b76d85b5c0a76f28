"""No step reads a value from the device or copies one to it: on a GPU, either waits for everything before it.

Fits and validations run whole, on the ``meta`` device, whose tensors have shapes but no values. Within a step, what
would need a value, and each copy between the device and the CPU, is refused. Elsewhere the values are made up.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import numpy as np
import pytest
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.accelerators import CPUAccelerator
from pytorch_lightning.strategies import SingleDeviceStrategy
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.data import DataLoader

from lightning_alrnn.batch import NeuralBatch, SequenceBatch
from lightning_alrnn.callbacks import (
    ActiveUnits,
    FixedPoints,
    LatentTrajectories,
    MemberCallbacks,
    RegimeOccupancy,
    Spectrum,
    StatesCallback,
    UnitAblation,
)
from lightning_alrnn.modules import ALRNNModule, ALRNNNeural, ALRNNSeq2Seq, PopulationModule
from lightning_alrnn.nn.encoders import ImageEncoder, SpeechEncoder, TextEncoder
from lightning_alrnn.nn.scan.fused import Arguments, fused_backward, fused_forward

# Lightning asks a value that is made up here whether the loaders are empty
pytestmark = pytest.mark.filterwarnings("ignore:Total length of ")

B, T, K, M, P = 5, 5, 3, 4, 2
META = torch.device("meta")
_READS = torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape
_FROM_THE_HOST = torch.tensor, torch.as_tensor, torch.asarray, Tensor.new_tensor
_INDEXING = Tensor.__getitem__, Tensor.__setitem__
_ATEN = torch.ops.aten


class HostReadError(Exception):
    """A step needs what only the device has, or the device what only the host has."""


class Device(TorchDispatchMode):
    """Takes the ``meta`` device for a GPU: refuses operators of a step, and makes up values outside of steps."""

    def __init__(self) -> None:
        super().__init__()
        self.in_step = False
        self.steps = 0
        self.from_the_host = FromTheHost(self)

    @contextmanager
    def step(self) -> Iterator[None]:
        self.in_step = True
        try:
            yield
        finally:
            self.in_step = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        if not any(tensor.is_meta for tensor in tensors):
            if self.in_step and tensors and torch.device(kwargs.get("device") or "cpu") == META:
                raise HostReadError(f"{func} copies to the device")
            return func(*args, **kwargs)
        reads, leaves = _reads(func, args), torch.device(kwargs.get("device") or META) != META
        # a number on the CPU is no more than an argument of a pointwise operator, but where() copies it
        number = torch.Tag.pointwise in func.tags and func is not _ATEN.where.self
        mixed = not all(tensor.is_meta or (number and tensor.ndim == 0) for tensor in tensors)
        if self.in_step and (reads or leaves or mixed):
            raise HostReadError(f"{func} {'reads a value' if reads else 'copies between the device and the CPU'}")
        if not reads and not leaves and not (func is _ATEN.copy_.default and not args[0].is_meta):
            return func(*args, **kwargs)
        result = func(*tree_map_only(Tensor, _made_up, args), **tree_map_only(Tensor, _made_up, kwargs))
        return result if leaves else tree_map_only(Tensor, lambda tensor: tensor.to(META), result)


class FromTheHost(TorchFunctionMode):
    """Refuses what torch copies to the device before the operators that a dispatch mode sees."""

    def __init__(self, device: Device) -> None:
        super().__init__()
        self.device = device

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if self.device.in_step:
            data = args[func is Tensor.new_tensor] if func in _FROM_THE_HOST else None
            made = func in _FROM_THE_HOST and result.is_meta and not isinstance(data, Tensor)
            index = args[1] if func in _INDEXING and args[0].is_meta else None
            parts = index if isinstance(index, tuple) else (index,)
            if made or any(isinstance(part, list | np.ndarray) for part in parts):
                raise HostReadError(f"{func.__name__} copies to the device")
        return result


def _reads(func: Any, args: Any) -> bool:
    """Whether an operator waits for values. An index waits for those of a mask alone."""
    if func in (_ATEN.index.Tensor, _ATEN.index_put.default, _ATEN.index_put_.default):
        return any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1])
    return any(tag in func.tags for tag in _READS)


def _made_up(tensor: Tensor) -> Tensor:
    if not tensor.is_meta:
        return tensor
    if tensor.is_floating_point():
        return 0.1 * torch.rand(tensor.shape, dtype=tensor.dtype)
    return torch.ones(tensor.shape, dtype=tensor.dtype)


class AnyDevice(CPUAccelerator):
    def setup_device(self, device: torch.device) -> None:
        pass


class StepStart(Callback):
    """A step begins here, in the first callback, and ends after the last hook, the module's own (see :func:`fit`)."""

    def __init__(self, device: Device) -> None:
        self.device = device

    def on_train_batch_start(self, *_: Any) -> None:
        self.device.in_step = True
        self.device.steps += 1

    on_validation_batch_start = on_train_batch_start

    def on_exception(self, *_: Any) -> None:
        self.device.in_step = False


def fit(model: LightningModule, batches: list[Any], *callbacks: Callback, **options: Any) -> Device:
    device = Device()
    trainer = Trainer(
        max_epochs=1,
        strategy=SingleDeviceStrategy(META, AnyDevice()),
        callbacks=[StepStart(device), *callbacks],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **options,
    )
    for name in ("on_train_batch_end", "on_validation_batch_end"):
        setattr(model, name, partial(_end_step, device, getattr(model, name)))
    loader: Any = DataLoader(batches, batch_size=None)  # type: ignore[arg-type]
    with device, device.from_the_host:
        trainer.fit(model, loader, loader)
    return device


def _end_step(device: Device, hook: Callable[..., None], *args: Any) -> None:
    hook(*args)
    device.in_step = False


# ------------------------------------------------------------------------------------------------- the test can fail

X, MASK, COLUMN = torch.ones(3, 2, device=META), torch.ones(3, 2, device=META) > 0, torch.ones(2)
FORBIDDEN: dict[str, Callable[[], Any]] = {
    "item": lambda: X.sum().item(),
    "cpu": lambda: X.cpu(),
    "to": lambda: COLUMN.to(META),
    "copy_": lambda: torch.empty(2).copy_(X[0]),
    "copy_ to": lambda: X[0].copy_(COLUMN),
    "tensor": lambda: torch.tensor(3.0, device=META),
    "as_tensor": lambda: torch.as_tensor([1, 2], device=META),
    "new_tensor": lambda: X.new_tensor([1.0, 2.0]),
    "list as index": lambda: X[[0, 1]],
    "array as index": lambda: X[:, np.array([0])],
    "index on the CPU": lambda: X[torch.tensor([0])],
    "list to write to": lambda: X.__setitem__(([0, 1], 0), 0.0),
    "mask as index": lambda: X[MASK],
    "mask to write to": lambda: X.__setitem__(MASK, 0.0),
    "nonzero": lambda: X.nonzero(),
    "unique": lambda: torch.unique(X),
    "repeat_interleave": lambda: X.repeat_interleave(MASK[:, 0].long(), dim=0),
    "equal": lambda: torch.equal(X, X),
    "number on the CPU": lambda: torch.where(MASK, X, COLUMN.sum()),
    "number to write": lambda: X.__setitem__(0, COLUMN.sum()),
    "mixed devices": lambda: torch.where(MASK, X, COLUMN),
}


@pytest.mark.parametrize("forbidden", FORBIDDEN.values(), ids=FORBIDDEN.keys())
def test_a_step_that_waits_for_the_device_is_refused(forbidden: Callable[[], Any]) -> None:
    device = Device()
    with device, device.from_the_host, pytest.raises(HostReadError), device.step():
        forbidden()


def test_a_step_that_does_not_wait_is_not_refused() -> None:
    device = Device()
    with device, device.from_the_host, device.step():
        torch.where(MASK, X, 0.0).masked_fill_(MASK, 1.0)[0, 0] = torch.full((), 2.0, device=META)
        X[MASK[:, 0].long(), 0] + torch.arange(3, device=META)
        X * torch.tensor(2.0).item() + torch.tensor(2.0)


def reads_in(hook: str) -> ALRNNModule:
    """A module that reads a value from the device in a hook."""
    model = ALRNNModule(K, 3, M, P)
    original = getattr(model, hook)

    def reading(*args: Any) -> Any:
        float(model.readout.weight.sum())
        return original(*args)

    setattr(model, hook, reading)
    return model


@pytest.mark.parametrize(
    "hook", ["on_before_optimizer_step", "on_train_batch_end", "validation_step", "on_validation_batch_end"]
)
def test_each_hook_of_a_step_is_watched(hook: str) -> None:
    with pytest.raises(HostReadError):
        fit(reads_in(hook), [sequences("last")])


def test_the_end_of_an_epoch_may_read() -> None:
    assert fit(reads_in("on_validation_epoch_end"), [sequences("last")], *states_callbacks()).steps == 2


# ------------------------------------------------------------------------------------------------------- the modules


def lengths() -> Tensor:
    return torch.randint(1, T + 1, (B,))


def sequences(target_step: str, objective: str = "classification", inputs: Tensor | None = None) -> SequenceBatch:
    shape = (B,) if target_step == "last" else (B, T)
    return SequenceBatch(
        torch.randn(B, T, K) if inputs is None else inputs,
        torch.randint(0, 3, shape) if objective == "classification" else torch.randn(*shape, 3),
        lengths(),
        None if target_step == "last" else torch.rand(B, T),
        torch.randint(0, 2, (B,)),
    )


def states_callbacks(module: str | None = None) -> list[StatesCallback]:
    kinds = (ActiveUnits, FixedPoints, LatentTrajectories, RegimeOccupancy, Spectrum)
    return [cast(Any, kind)(module=module) for kind in kinds]


SEQUENCES: dict[str, tuple[dict[str, Any], Any]] = {
    "classes": ({"group_names": ["a", "b"]}, None),
    "classes at every step": ({"target_step": "every"}, None),
    "values": ({"objective": "regression", "criterion": "direction"}, None),
    "values at every step": ({"objective": "regression", "criterion": "direction", "target_step": "every"}, None),
    "eager": ({"backend": "eager", "self_connections": "all", "initial_state": "uniform"}, None),
    "cudnn": ({"backend": "cudnn", "initial_state": "learned"}, None),
    "RNN": ({"core": "RNN"}, None),
    "GRU": ({"core": "GRU"}, None),
    "LSTM": ({"core": "LSTM"}, None),
    "text": (
        {"encoder": lambda: TextEncoder(7, output_size=M), "input_matrix": "identity"},
        lambda: torch.randint(0, 7, (B, T)),
    ),
    "vectors": ({"encoder": lambda: TextEncoder(None, K, output_size=M)}, None),
    "images": ({"encoder": lambda: ImageEncoder(M, pools=2)}, lambda: torch.rand(B, T, 1)),
    "speech": ({"encoder": lambda: SpeechEncoder(M, K), "target_step": "every"}, None),
}


@pytest.mark.parametrize(("options", "inputs"), SEQUENCES.values(), ids=SEQUENCES.keys())
def test_sequences(options: dict[str, Any], inputs: Callable[[], Tensor] | None) -> None:
    options = {name: value() if name == "encoder" else value for name, value in options.items()}
    model = ALRNNModule(K, 3, M, P, **options)
    batches = [sequences(model.target_step, model.objective, None if inputs is None else inputs()) for _ in range(2)]
    callbacks: list[Callback] = [UnitAblation()] if options.get("core", "ALRNN") == "ALRNN" else []
    if not {"core", "encoder", "backend"} & options.keys():  # which make no other states
        callbacks += states_callbacks()
    assert fit(model, batches, *callbacks, gradient_clip_val=1.0).steps == 4


@pytest.mark.parametrize("forcing", [0.0, 0.5, 1.0])
def test_sequence_to_sequence(forcing: float) -> None:
    model = ALRNNSeq2Seq(7, 4, M, P, P, embedding_size=3, teacher_forcing=forcing, teacher_forcing_epochs=2)
    batches = [SequenceBatch(torch.randint(0, 7, (B, T)), torch.randint(0, 4, (B, 6)), lengths()) for _ in range(2)]
    looks = [*states_callbacks("encoder"), *states_callbacks("decoder")] if forcing == 0.5 else []
    assert fit(model, batches, *looks).steps == 4


@pytest.mark.parametrize(
    ("observation", "interval"), [("poisson", 1), ("negative_binomial", 4), ("generalized_poisson", T)]
)
def test_spikes(observation: Any, interval: int) -> None:
    model = ALRNNNeural(K, 3, 6, M, P, observation, interval=interval, mar_strength=0.1, group_names=["a", "b"])
    choices, groups = torch.randint(0, 3, (B,)), torch.randint(0, 2, (B,))
    batch = NeuralBatch(torch.randn(B, T, K), torch.ones(B, T, 6), choices, lengths(), groups)
    assert fit(model, [batch, batch], *(states_callbacks() if interval == 1 else [])).steps == 4


@pytest.mark.parametrize("stopped", [False, True])
@pytest.mark.parametrize("vectorised", [True, False])
def test_populations(vectorised: bool, stopped: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    # a fused Adam keeps its number of steps on the device; it is for GPUs and CPUs alone
    supported = "_get_fused_kernels_supported_devices"
    monkeypatch.setattr(sys.modules["torch.optim.optimizer"], supported, lambda: ["cuda", "meta"])
    target_step = "every" if stopped else "last"
    model = PopulationModule.from_options(
        [{"nonlinear_units": 1}, {"nonlinear_units": 2, "mar_strength": 0.0}, {"nonlinear_units": 4}],
        input_size=K,
        output_size=3,
        hidden_size=M,
        target_step=target_step,
        mar_strength=0.1,
    )
    model.vectorised = vectorised
    model.scores[1] = {"train/loss": 1.0, "val/task_loss": 1.0}  # of the time before it stopped
    monkeypatch.setattr(PopulationModule, "stopped", property(lambda self: [False, stopped, False]))
    monkeypatch.setattr(PopulationModule, "on_train_start", PopulationModule._find_rows)
    stacked = (None if field is None else torch.stack([field] * 3) for field in sequences(target_step))
    batch = SequenceBatch(*stacked)  # type: ignore[arg-type]
    looks = MemberCallbacks([states_callbacks() for _ in range(3)], share=1e9)
    assert fit(model, [batch, batch], looks, gradient_clip_val=1.0).steps == 4
    assert set(looks.values) == {2}  # the first look is at one member


def test_the_fused_backend() -> None:
    shapes = {"inputs": (2, B, T, K), "state": (2, B, M), "A": (2, M), "W": (2, M, M), "C": (2, M, K), "h": (2, M)}
    floats = {name: torch.empty(shape, device=META) for name, shape in shapes.items()}
    integers = {
        name: torch.empty(shape, dtype=torch.int64, device=META) for name, shape in (("P", 2), ("lengths", (2, B)))
    }
    arguments, device = Arguments(**floats, **integers), Device()
    with device, device.from_the_host, device.step():
        states, last = fused_forward(arguments)
        fused_backward(states, last, states, arguments)
