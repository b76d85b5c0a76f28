"""Check the package on this machine's GPU and time it there, in at most eight minutes: ``make gpu``.

The checks come first, each with random numbers of its own: every backend against the plain loop in float64, one launch
for networks that differ in P, ``torch.compile``, training of each module with all callbacks and no synchronisation in a
step, NCCL with one process, derivatives and transforms, autocast, a run that is killed and resumed, two processes, and
a population against its members trained singly. Then come timings by CUDA events, all in turn, and a sweep of 1,000
networks. A part that fails, or lacks a package, stops no other part.

It needs PyTorch from 2.11 and Triton from 3.6 and works on a checkout that is not installed. Without a GPU it says so
and writes nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import importlib.util
import itertools
import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from common import summary, table, write
from recurrence import CASES, layers
from torch import Tensor, nn

from lightning_alrnn.nn import ALRNN, Recurrence, available_backends, run_recurrence
from lightning_alrnn.nn.scan import dispatch, operator
from lightning_alrnn.nn.scan.cudnn import KINK

REPOSITORY = Path(__file__).resolve().parents[1]
TOLERANCE = 1e-5  # of the largest entry, beyond three times what the plain loop in float32 is off by
STACKS = (1, 8, 64, 512)  # networks
SINGLE: dict[str, Any] = {"gradient_clip_val": 1.0, "logger": False, "enable_checkpointing": False}


class MissingError(Exception):
    """Name of a package that a part needs and that is not installed."""


class Machine(NamedTuple):
    """The device that the parts run on, and the time by which they must have ended."""

    device: torch.device
    deadline: float  # of time.monotonic()

    @property
    def tiny(self) -> bool:
        """Whether this is a rehearsal on a CPU."""
        return self.device.type == "cpu"

    @property
    def accelerator(self) -> str:
        """The device's kind as the Trainer calls it."""
        return "cpu" if self.tiny else "gpu"

    @property
    def seconds_left(self) -> float:
        return self.deadline - time.monotonic()


# --------------------------------------------------------------------------------------------------------- correctness


def backends(machine: Machine) -> list[str]:
    """Backends that run float32 here, other than ``eager``."""
    names = [name for name in available_backends() if name not in ("eager", "native")]
    if "triton" not in names:
        raise MissingError("triton")
    return names


def draw(generator: torch.Generator, *shape: int) -> Tensor:
    """Normal numbers in float64."""
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def problem(
    generator: torch.Generator, leading: tuple[int, ...], case: Sequence[int], added: bool
) -> list[Tensor | None]:
    """Inputs, state and parameters in float64 of a network whose states neither vanish nor explode."""
    batch, steps, hidden, _, channels = case
    width = hidden if added else channels
    return [
        draw(generator, *leading, batch, steps, width),
        draw(generator, *leading, batch, hidden),
        0.3 * draw(generator, *leading, hidden),
        0.5 / hidden**0.5 * draw(generator, *leading, hidden, hidden),
        None if added else draw(generator, *leading, hidden, channels) / channels**0.5,
        0.1 * draw(generator, *leading, hidden),
    ]


def outputs_and_gradients(
    values: Sequence[Tensor | None], units: Any, lengths: Tensor | None, backend: str, target: torch.dtype, device: Any
) -> list[Tensor]:
    """States, last states, and the gradients of a fixed function of both."""
    leaves = [None if v is None else v.to(device, target).requires_grad_() for v in values]
    inputs, state, *parameters = leaves
    output = run_recurrence(Recurrence(*parameters, units), inputs, state, lengths, backend)  # type: ignore[arg-type]
    loss = output.states.square().mean() + output.last.sin().mean()
    gradients = torch.autograd.grad(loss, [leaf for leaf in leaves if leaf is not None])
    return [value.detach().double().cpu() for value in (*output, *gradients)]


def in_float32() -> Any:
    """A context in which cuDNN multiplies in float32; PyTorch's default is TF32, which is off by 1e-3."""
    return torch.backends.cudnn.flags(enabled=True, allow_tf32=False)


def beside_a_kink(states: Tensor, nonlinear: int) -> bool:
    """Whether a state is so near a kink, of the ReLU or of cuDNN's form, that the gradient in float32 may jump."""
    rectified = states[..., states.shape[-1] - nonlinear :]
    distances = rectified[rectified != 0].abs(), (states - KINK).abs()  # zero is past the end of a sequence
    return any(bool((distance < 2e-6).any()) for distance in distances)


def exact_problem(
    generator: torch.Generator, leading: tuple[int, ...], case: Sequence[int], units: Any, lengths: Any, added: bool
) -> tuple[list[Tensor | None], list[Tensor]]:
    """A problem and its exact solution, drawn again until no state is beside a kink."""
    while True:
        values = problem(generator, leading, case, added)
        exact = outputs_and_gradients(values, units, lengths, "eager", torch.float64, "cpu")
        if not beside_a_kink(exact[0], int(torch.as_tensor(units).max())):
            return values, exact


def check_backends(machine: Machine) -> str:
    """Every backend against the plain loop in float64, states and all gradients."""
    generator = torch.Generator().manual_seed(time.time_ns() % 2**32)
    shapes = [(1, 1, 1, 1, 1), (5, 2, 10, 0, 3), (17, 40, 50, 5, 2), (33, 20, 100, 100, 40), (16, 12, 128, 64, 7)]
    worst: dict[str, float] = {}
    for number, case in enumerate(shapes[:3] if machine.tiny else shapes):
        for padded in (False, True):
            lengths = torch.randint(1, case[1] + 1, (case[0],), generator=generator) if padded else None
            there = None if lengths is None else lengths.to(machine.device)
            values, exact = exact_problem(generator, (), case, case[3], lengths, added=bool(number % 2))
            plain = outputs_and_gradients(values, case[3], there, "eager", torch.float32, machine.device)
            noise = [float((one - other).abs().max()) for one, other in zip(plain, exact, strict=True)]
            for name in backends(machine):
                with in_float32():
                    values_there = outputs_and_gradients(values, case[3], there, name, torch.float32, machine.device)
                for one, other, rounding in zip(values_there, exact, noise, strict=True):
                    error, scale = float((one - other).abs().max()), float(other.abs().max())
                    worst[name] = max(worst.get(name, 0.0), error / max(scale, 1e-30))
                    if error > TOLERANCE * scale + 3 * rounding + 1e-30:
                        raise AssertionError(f"{name} is off by {error:.3g} of {scale:.3g}, {case=}, {padded=}")
    return "largest error, of the largest entry: " + ", ".join(f"{name} {value:.1e}" for name, value in worst.items())


def check_stack(machine: Machine) -> str:
    """Networks that differ in P, in one launch, against each by itself; the same bits again."""
    backends(machine)
    generator = torch.Generator().manual_seed(time.time_ns() % 2**32)
    case, units = (18, 6, 17, 0, 3) if machine.tiny else (40, 30, 50, 0, 3), torch.tensor([0, 5, 17])
    lengths = torch.randint(1, case[1] + 1, (3, case[0]), generator=generator)
    values, exact = exact_problem(generator, (3,), case, units, lengths, added=False)
    there = units.to(machine.device), lengths.to(machine.device)
    first, second = (outputs_and_gradients(values, *there, "triton", torch.float32, machine.device) for _ in range(2))
    if not all(torch.equal(one, other) for one, other in zip(first, second, strict=True)):
        raise AssertionError("two runs of one launch differ")
    error = max(float((one - other).abs().max() / other.abs().max()) for one, other in zip(first, exact, strict=True))
    if error > 2 * TOLERANCE:
        raise AssertionError(f"the stack is off by {error:.3g} of the largest entry")
    return f"largest error {error:.1e}; the same bits twice"


def check_compile(machine: Machine) -> str:
    """``torch.compile`` takes the layer whole, and ``auto`` takes the kernels."""
    backends(machine)
    torch.manual_seed(0)
    layer = ALRNN(3, 50, 5, backend="triton" if machine.tiny else "auto").to(machine.device)
    inputs = torch.randn(20, 15, 3, device=machine.device)
    lengths = torch.randint(1, 16, (20,), device=machine.device)
    parameters = list(layer.parameters())

    def passes(run: Callable[..., Any]) -> list[Tensor]:
        states, last = run(inputs, lengths=lengths)
        return [states, *torch.autograd.grad(states.mean() + last.square().mean(), parameters)]

    expected = passes(layer)
    chosen = dispatch._choose(layer.backend, layer.recurrence(), inputs, forward_mode=False)
    if chosen != "triton":
        raise AssertionError(f"auto takes {chosen}")
    torch.testing.assert_close(passes(torch.compile(layer, fullgraph=True, backend="aot_eager")), expected)
    return "without a graph break"


def check_transforms(machine: Machine) -> str:
    """Every backend under every derivative and transform of the tests: right in float64, or refused."""
    sys.path.append(str(REPOSITORY / "tests" / "helpers"))
    import transforms

    names, done = ["auto", "eager", *backends(machine)], Counter[str]()
    with in_float32():
        for name, transform in itertools.product(names, transforms.TRANSFORMS):
            try:
                done[transforms.outcome(name, transform, machine.device)] += 1
            except Exception as error:
                raise AssertionError(f"{name}, {transform}: {type(error).__name__}: {error}") from error
    return f"{', '.join(names)}: {done['right']} right, {done['refused']} refused, 0 wrong"


def check_autocast(machine: Machine) -> str:
    """Autocast to bfloat16 and float16: the recurrence stays in float32, and so training converges alike."""
    torch.manual_seed(0)
    inputs, names = torch.randn(20, 15, 3, device=machine.device), ["eager", *backends(machine)]
    for name, dtype in itertools.product(names, (torch.bfloat16, torch.float16)):
        layer = ALRNN(3, 50, 5, backend=name, init="near_identity").to(machine.device)  # type: ignore[arg-type]
        with in_float32():
            expected = layer(inputs).states
            with torch.autocast(machine.device.type, dtype=dtype):
                mixed, from_half = layer(inputs).states, layer(inputs.to(dtype)).states
                torch.testing.assert_close(mixed, expected, rtol=0, atol=1e-6)
                torch.testing.assert_close(from_half, layer(inputs.to(dtype).float()).states, rtol=0, atol=1e-6)
            gradients = torch.autograd.grad(mixed.mean(), list(layer.parameters()))
        if not all(bool(gradient.isfinite().all()) for gradient in gradients):
            raise AssertionError(f"{name} in {dtype}: gradients are not finite")
    losses = {}
    for precision in ("32-true", "bf16-mixed") if machine.tiny else ("32-true", "bf16-mixed", "16-mixed"):
        with tempfile.TemporaryDirectory() as folder:
            module, data = lightning().runs.build("sequence"), lightning().runs.Sequences("sequence", (24, 10, 10), 8)
            trainer = trainer_of(machine, 2, folder, precision=precision)
            trainer.fit(module, data)
            losses[precision] = float(trainer.callback_metrics["train/loss"])
    if not all(abs(loss - losses["32-true"]) < 0.02 * losses["32-true"] for loss in losses.values()):
        raise AssertionError(f"losses differ by more than 2 %: {losses}")
    return "loss after two epochs: " + ", ".join(f"{name} {loss:.4f}" for name, loss in losses.items())


# ----------------------------------------------------------------------------------------------------------- Lightning


def lightning() -> Any:
    """The packages that training needs, as one namespace."""
    sys.path.append(str(REPOSITORY / "tests" / "helpers"))
    try:
        import pytorch_lightning
        import tiny_runs

        import lightning_alrnn.callbacks
        import lightning_alrnn.datamodules
        import lightning_alrnn.modules
    except ImportError as error:
        raise MissingError(error.name or str(error)) from error
    return argparse.Namespace(
        trainer=pytorch_lightning,
        runs=tiny_runs,
        callbacks=lightning_alrnn.callbacks,
        data=lightning_alrnn.datamodules,
        modules=lightning_alrnn.modules,
    )


def trainer_of(machine: Machine, epochs: int, folder: str, **options: Any) -> Any:
    """A Trainer on the device that prints nothing."""
    return lightning().trainer.Trainer(
        max_epochs=epochs,
        accelerator=machine.accelerator,
        devices=1,
        default_root_dir=folder,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        **options,
    )


def all_callbacks(kind: str) -> list[Any]:
    """Every callback of the package that fits a module of this kind."""
    callbacks = lightning().callbacks
    names = ["RegimeOccupancy", "ActiveUnits", "FixedPoints", "Spectrum", "LatentTrajectories", "DivergenceGuard"]
    names += {"sequence": ["UnitAblation"], "neural": ["NeuralFit"], "seq2seq": ["LengthAccuracy"]}[kind]
    kinds = [getattr(callbacks, name) for name in names]
    if kind != "seq2seq":
        return [callback() for callback in kinds]
    # of an encoder and a decoder, callbacks that look at one network want to know which
    of_one = {callback: issubclass(callback, callbacks.StatesCallback) for callback in kinds}
    return [callback(module="network.decoder") if of_one[callback] else callback() for callback in kinds]


@contextlib.contextmanager
def synchronisations() -> Iterator[list[str]]:
    """Lines of this package at which the host waits for the device, as ``file:line``."""
    places: list[str] = []

    def note(message: Any, *_: Any) -> None:
        if "synchronizing CUDA operation" in str(message):
            frames = [frame for frame in traceback.extract_stack() if Path(frame.filename) != Path(__file__)]
            inside = [frame for frame in frames if str(REPOSITORY) in frame.filename]
            # the innermost line of the package
            frame = (inside or frames)[-1]
            places.append(f"{Path(frame.filename).name}:{frame.lineno}")

    mode = torch.cuda.get_sync_debug_mode() if torch.cuda.is_available() else 0
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = note
        try:
            if torch.cuda.is_available():
                torch.cuda.set_sync_debug_mode("warn")
            yield places
        finally:
            if torch.cuda.is_available():
                torch.cuda.set_sync_debug_mode(mode)


def watch_steps(trainer: Any, module: Any) -> list[str]:
    """Note the synchronisations of the training steps and of the callbacks' hooks after each batch."""
    places: list[str] = []

    def watched(function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **options: Any) -> Any:
            with synchronisations() as new:
                result = function(*arguments, **options)
            places.extend(new)
            return result

        return run

    module.optimizer_step = watched(module.optimizer_step)  # with its closure: the step, backward and clipping
    module.validation_step = watched(module.validation_step)
    for callback in trainer.callbacks:
        if type(callback).__module__.startswith("lightning_alrnn"):
            for hook in ("on_train_batch_end", "on_validation_batch_end"):
                setattr(callback, hook, watched(getattr(callback, hook)))
    return places


def check_steps(machine: Machine) -> str:
    """Each module with all of its callbacks, in a Trainer that forms a process group: NCCL takes what they reduce."""
    runs, waits, keys = lightning().runs, Counter[str](), dict[str, set[str]]()
    try:
        for kind, strategy in itertools.product(runs.MODULES, ("auto", "ddp")):
            with tempfile.TemporaryDirectory() as folder:
                module, data = runs.build(kind), runs.Sequences(kind, (24, 10, 10), 8)
                options = {"callbacks": all_callbacks(kind), "gradient_clip_val": 1.0, "strategy": strategy}
                trainer = trainer_of(machine, 2, folder, **options)
                places = watch_steps(trainer, module) if strategy == "auto" else []
                trainer.fit(module, data)
                logged = set(trainer.callback_metrics)
                if keys.setdefault(kind, logged) != logged:
                    raise AssertionError(f"{kind}: other keys under ddp: {sorted(keys[kind] ^ logged)}")
                waits.update(f"{kind} {place}" for place in places)
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
    if waits:
        listed = ", ".join(f"{place} ({count}×)" for place, count in sorted(waits.items()))
        raise AssertionError(f"the host waits for the device in a step: {listed}")
    names, count = ", ".join(runs.MODULES), sum(map(len, keys.values()))
    return f"{names}: no synchronisation in a step; {count} keys, the same under ddp"


def train_to_resume(machine: Machine, folder: str, name: str, checkpoint: str | None = None, kill: int = 0) -> Any:
    """Train four epochs of three steps with drawn initial states; ``kill`` is the step after which it is killed."""
    quiet()  # the process that is killed is a new one
    parts = lightning()
    from lightning_alrnn.modules import base

    class Kill(parts.trainer.Callback):  # type: ignore[name-defined, misc]
        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            if trainer.global_step == kill:
                os.kill(os.getpid(), signal.SIGKILL)

    steps, base._CHECKPOINT_STEPS = base._CHECKPOINT_STEPS, 2
    try:
        module = parts.runs.build("sequence", initial_state="uniform")
        trainer = trainer_of(machine, 4, f"{folder}/{name}", callbacks=[Kill()])
        trainer.fit(module, parts.runs.Sequences("sequence", (24, 10, 10), 8), ckpt_path=checkpoint)
    finally:
        base._CHECKPOINT_STEPS = steps
    return module


def check_resume(machine: Machine) -> str:
    """A run that is killed in the middle of an epoch and resumed, and one that is not: the same weights."""
    with tempfile.TemporaryDirectory() as folder:
        uninterrupted = train_to_resume(machine, folder, "uninterrupted")
        # a process of its own, which starts anew, as CUDA does not survive a fork
        arguments = machine, folder, "killed", None, 5
        process = torch.multiprocessing.get_context("spawn").Process(target=train_to_resume, args=arguments)
        process.start()
        process.join()
        if process.exitcode != -signal.SIGKILL:
            raise AssertionError(f"the run that should be killed ended with {process.exitcode}")
        (checkpoint,) = Path(folder, "killed").rglob("last.ckpt")
        resumed = train_to_resume(machine, folder, "resumed", str(checkpoint))
    for name, value in uninterrupted.state_dict().items():
        if not torch.equal(value.cpu(), resumed.state_dict()[name].cpu()):
            raise AssertionError(f"{name} differs")
    return "killed after step 5 of 12: bit for bit"


def train_share(rank: int, machine: Machine, processes: int, folder: str) -> None:
    """Train a layer with drawn initial states on a share of each batch; the first process saves the weights."""
    several = not machine.tiny and torch.cuda.device_count() >= processes
    device = torch.device("cuda", rank) if several else machine.device
    torch.manual_seed(0)
    model: Any = ALRNN(3, 50, 5, initial_state="uniform", init="near_identity").to(device)
    parameters = list(model.parameters())
    batches = torch.randn(5, 12, 20, 3, generator=torch.Generator().manual_seed(1)).to(device)
    if processes > 1:
        torch.distributed.init_process_group(
            "nccl" if several else "gloo", f"file://{folder}/store", timedelta(seconds=60), processes, rank
        )
        model = nn.parallel.DistributedDataParallel(model)
    torch.manual_seed(2)
    optimizer = torch.optim.SGD(parameters, lr=0.1)
    for batch in batches:
        optimizer.zero_grad()
        model(batch[rank::processes]).states.square().mean().backward()
        optimizer.step()
    if rank == 0:
        torch.save([parameter.detach().cpu() for parameter in parameters], f"{folder}/{processes}.pt")
    if processes > 1:
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


def check_processes(machine: Machine) -> str:
    """Two processes, on a device each by NCCL or on one by gloo, against one process with the whole batches."""
    several = not machine.tiny and torch.cuda.device_count() >= 2
    with tempfile.TemporaryDirectory() as folder:
        train_share(0, machine, 1, folder)
        try:
            torch.multiprocessing.spawn(train_share, (machine, 2, folder), nprocs=2)  # type: ignore[no-untyped-call]
        except Exception as error:
            if "gloo" in str(error).lower() and "not " in str(error) and not machine.tiny:
                reason = str(error).strip().splitlines()[-1]
                return f"left out: gloo cannot share this device ({reason})"
            raise
        one, two = (torch.load(f"{folder}/{processes}.pt", weights_only=True) for processes in (1, 2))
    worst = max(float((a - b).abs().max()) for a, b in zip(one, two, strict=True))
    if worst > 1e-5:
        raise AssertionError(f"weights differ by {worst:.2g}")
    way = "NCCL, a device each" if several else "gloo, one device"
    return f"two processes ({way}): weights within {worst:.1e} of those of one after 5 steps with drawn initial states"


def population_of(
    machine: Machine, count: int, steps: int, sizes: tuple[int, int], batch: int = 128, cuda_graph: bool = False
) -> Any:
    """A population of addition networks, a tenth of them with each number of nonlinear units, and its data."""
    modules, data = lightning().modules, lightning().data
    differences = [{"nonlinear_units": number % 10, "seed": number // 10} for number in range(count)]
    population = modules.PopulationModule.from_options(
        differences,
        cuda_graph=cuda_graph,
        input_size=2,
        output_size=1,
        objective="regression",
        hidden_size=50,
        initial_state="zeros",
        mar_strength=0.1,
        optimizer=partial(torch.optim.Adam, lr=3e-3),
    )
    options = {"train_size": sizes[0], "val_size": sizes[1], "test_size": sizes[1], "batch_size": batch}
    sets = [data.Addition(sequence_length=steps, seed=seed, **options) for seed in range(-(-count // 10))]
    return population, data.PopulationDataModule([sets[number // 10] for number in range(count)])


def check_population(machine: Machine) -> str:
    """Members of a population against the same networks trained singly."""
    with tempfile.TemporaryDirectory() as folder:
        population, sets = population_of(machine, 3, 20, (256, 64))
        alone = population_of(machine, 3, 20, (256, 64))[0].members()
        trainer = trainer_of(machine, 2, folder, **SINGLE)
        places = watch_steps(trainer, population)
        trainer.fit(population, sets)
        for single, data in zip(alone, sets.members, strict=True):
            trainer_of(machine, 2, folder, **SINGLE).fit(single, data)
        worst = largest_difference(population.members(), alone)
        if worst > 1e-3:
            raise AssertionError(f"weights differ by {worst:.2g}")
        if places:
            raise AssertionError(f"the host waits for the device in a step: {sorted(set(places))}")
        from_graph = 0.0
        if not machine.tiny:
            graphed, sets = population_of(machine, 3, 20, (256, 64), cuda_graph=True)
            trainer_of(machine, 2, folder, **SINGLE).fit(graphed, sets)
            from_graph = largest_difference(graphed.members(), population.members())
    if from_graph > 1e-5:
        raise AssertionError(f"from a CUDA graph, weights differ by {from_graph:.2g}")
    return f"weights within {worst:.1e} after 4 steps, from a CUDA graph {from_graph:.1e}; no synchronisation in a step"


def largest_difference(networks: Sequence[nn.Module], others: Sequence[nn.Module]) -> float:
    """Largest difference between the weights of two lists of networks."""
    pairs = zip(networks, others, strict=True)
    values = [zip(one.parameters(), other.parameters(), strict=True) for one, other in pairs]
    return max(float((a.cpu() - b.cpu()).abs().max()) for each in values for a, b in each if a.numel())


# ------------------------------------------------------------------------------------------------------------- timings


def milliseconds(machine: Machine, runs: dict[str, Callable[[], object]], repeats: int) -> dict[str, dict[str, float]]:
    """Milliseconds of each run; the runs take turns, after two rounds that warm up. A run that fails is left out."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for repeat in range(repeats + 2):
        for name in list(times):
            try:
                value = milliseconds_of(machine, runs[name])
            except Exception as error:
                del times[name]
                print(f"  {name} fails: {type(error).__name__}: {error}", flush=True)
                continue
            if repeat >= 2:
                times[name].append(value)
    return {name: summary(values) for name, values in times.items()}


def milliseconds_of(machine: Machine, run: Callable[[], object]) -> float:
    """Milliseconds of one run, by events of the device if it is a GPU."""
    if machine.tiny:
        before = time.perf_counter()
        run()
        return 1e3 * (time.perf_counter() - before)
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start.record()
    run()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end)


def candidates(machine: Machine, case: Sequence[int]) -> dict[str, Callable[[], object]]:
    """Forward and backward passes that are timed, by name."""
    batch, steps, hidden, nonlinear, channels = case
    torch.manual_seed(0)
    sequences = torch.randn(batch, steps, channels, device=machine.device)
    weight = torch.randn(batch, steps, hidden, device=machine.device)
    lengths = torch.full((batch,), steps, device=machine.device)
    lengths[0] = max(1, steps // 2)

    def passes(layer: Any, parameters: list[Tensor], **options: Any) -> Callable[[], object]:
        return lambda: torch.autograd.grad(layer(sequences, **options)[0], parameters, weight)

    networks = layers(hidden, nonlinear, channels, backends(machine), machine.device)
    runs = {name: passes(layer, list(layer.parameters())) for name, layer in networks.items()}
    for name in ("triton", "cudnn"):
        runs[f"{name}, padded"] = passes(networks[name], list(networks[name].parameters()), lengths=lengths)
    packed = nn.utils.rnn.pack_padded_sequence(sequences, lengths.cpu(), batch_first=True, enforce_sorted=False)
    flat = torch.randn(int(lengths.sum()), hidden, device=machine.device)
    rnn = networks["nn.RNN(relu)"]
    runs["nn.RNN(relu), packed"] = lambda: torch.autograd.grad(rnn(packed)[0].data, list(rnn.parameters()), flat)
    if not machine.tiny:
        fused = ALRNN(channels, hidden, nonlinear, backend="fused").to(machine.device)

        class States(nn.Module):
            """The layer with a plain tuple as its result, which the capture of a graph needs."""

            def __init__(self) -> None:
                super().__init__()
                self.layer = fused

            def forward(self, inputs: Tensor) -> tuple[Tensor]:
                return (self.layer(inputs).states,)

        try:
            graphed: Any = torch.cuda.make_graphed_callables(States(), (sequences,))
            runs["fused in a CUDA graph"] = passes(graphed, list(fused.parameters()))
        except Exception as error:
            leave_capture(machine)
            print(f"  fused in a CUDA graph fails: {type(error).__name__}: {error}", flush=True)
    return runs


def time_recurrence(machine: Machine) -> list[dict[str, Any]]:
    """The recurrence, forward and backward, beside what it replaces."""
    cases = {"tiny": (3, 4, 6, 2, 2)} if machine.tiny else CASES
    rows = []
    for name, case in cases.items():
        with in_float32():
            times = milliseconds(machine, candidates(machine, case), 2 if machine.tiny else 20)
        rows.append({"name": name, "B,T,M,P,K": case, "milliseconds": times})
        print_medians(name, times)
    return rows


def print_medians(name: str, times: dict[str, dict[str, float]]) -> None:
    """Print the median of each run in a line."""
    print(f"  {name}: " + ", ".join(f"{key} {value['median']:.2f}" for key, value in times.items()), flush=True)


def leave_capture(machine: Machine) -> None:
    """Go back to the default stream: the capture of a graph that failed leaves another."""
    if not machine.tiny:
        torch.cuda.set_stream(torch.cuda.default_stream())


def time_stacks(machine: Machine) -> list[dict[str, Any]]:
    """E networks in one call, forward and backward."""
    backends(machine)
    batch, steps, hidden, _, channels = (3, 4, 6, 2, 2) if machine.tiny else CASES["addition"]
    rows = []
    for count in STACKS[:2] if machine.tiny else STACKS:
        generator = torch.Generator(machine.device).manual_seed(0)

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, device=machine.device)  # noqa: B023

        leaves = [0.3 * normal(count, hidden), 0.5 / hidden**0.5 * normal(count, hidden, hidden)]
        leaves += [normal(count, hidden, channels), 0.1 * normal(count, hidden)]
        leaves = [leaf.requires_grad_() for leaf in leaves]
        units = torch.arange(count, device=machine.device) % (hidden + 1)
        recurrence = Recurrence(*leaves, units)
        inputs, state = normal(count, batch, steps, channels), normal(count, batch, hidden)
        weight = normal(count, batch, steps, hidden)

        def run(backend: str) -> object:
            states = run_recurrence(recurrence, inputs, state, None, backend).states  # noqa: B023
            return torch.autograd.grad(states, leaves, weight)  # noqa: B023

        runs = {name: partial(run, name) for name in ("triton", "fused")}
        times = milliseconds(machine, runs, 2 if machine.tiny else 10)
        rows.append({"networks": count, "milliseconds": times})
        print_medians(f"{count} networks", times)
    return rows


def time_training(machine: Machine) -> list[dict[str, Any]]:
    """A training step of a population in Lightning: milliseconds of wall time a step, in an epoch after the first."""
    rows: list[dict[str, Any]] = [{"networks": count} for count in ((1, 3) if machine.tiny else (*STACKS[:-1], 500))]
    steps, length = (2, 10) if machine.tiny else (20, 100)
    for key in ("milliseconds", "from a CUDA graph") if not machine.tiny else ("milliseconds",):
        for row in rows:
            if machine.seconds_left < 60:
                break
            epochs: list[float] = []
            try:
                graph, sizes = key != "milliseconds", (64 * steps, 64)
                population, data = population_of(machine, row["networks"], length, sizes, batch=64, cuda_graph=graph)
                options = {"callbacks": [epoch_times(machine, epochs)], "limit_val_batches": 1, **SINGLE}
                with tempfile.TemporaryDirectory() as folder:
                    trainer_of(machine, 3, folder, **options).fit(population, data)
            except Exception as error:
                if key == "milliseconds":
                    raise
                leave_capture(machine)
                print(f"  {key} it fails: {type(error).__name__}: {error}", flush=True)
                break
            row[key] = min(epochs[1:]) / steps
            print(f"  networks {row['networks']}, {key} {row[key]:.2f}", flush=True)
    return rows


def epoch_times(machine: Machine, epochs: list[float]) -> Any:
    """A callback that notes the milliseconds of each epoch's training."""

    def now() -> float:
        if not machine.tiny:
            torch.cuda.synchronize()
        return 1e3 * time.perf_counter()

    class EpochTimes(lightning().trainer.Callback):  # type: ignore[name-defined, misc]
        def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
            epochs.append(-now())

        def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, index: int) -> None:
            if trainer.is_last_batch:
                epochs[-1] += now()

    return EpochTimes()


def time_sweep(machine: Machine) -> dict[str, Any]:
    """A sweep of 1,000 addition networks as the configuration ``addition_quick`` trains them, in one process."""
    lightning()
    count, epochs = (4, 1) if machine.tiny else (1000, 40)
    missing = [name for name in ("jsonargparse", "submitit") if importlib.util.find_spec(name) is None]
    limit = max(10.0, machine.seconds_left - 15)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        start = time.monotonic()
        if missing:
            way = f"a population in Python, as {' and '.join(missing)} is missing"
            population, data = population_of(machine, count, 50, (10_000, 1000))
            trainer = trainer_of(machine, epochs, folder, max_time=timedelta(seconds=limit), **SINGLE)
            trainer.fit(population, data)
            if trainer.current_epoch < epochs:
                unfinished = f"{round(limit)}, epoch {trainer.current_epoch} of {epochs}"
                return {"networks": count, "way": way, "not finished after seconds": unfinished}
            trainer.test(population, data, verbose=False)
            scores = [scores["test/task_loss"] for scores in population.scores]
        else:
            way = "alrnn sweep"
            units, seeds = ("0,1", "2") if machine.tiny else ("0,1,2,3,4,5,10,20,30,50", "100")
            command = [sys.executable, "-m", "lightning_alrnn", "sweep", "--config", "addition_quick"]
            command += ["--nonlinear_units", units, "--seeds", seeds, "--output_dir", folder]
            command += ["--trainer.accelerator", machine.accelerator, "--trainer.max_epochs", str(epochs)]
            environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
            pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
            with subprocess.Popen(command, env=environment, start_new_session=True, **pipes) as process:
                try:
                    output, _ = process.communicate(timeout=limit)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)  # with its workers, which would go on
                    return {"networks": count, "way": way, "not finished after seconds": round(limit)}
            if process.returncode:
                raise AssertionError(output[-2000:])
            with (Path(folder) / "results.csv").open(encoding="utf-8") as file:
                scores = [float(row["test/task_loss"]) for row in csv.DictReader(file)]
        seconds = time.monotonic() - start
    result: dict[str, Any] = {"networks": count, "way": way, "seconds": round(seconds, 1)}
    result["median test loss"] = sorted(scores)[len(scores) // 2]
    print("  " + ", ".join(f"{key}: {value}" for key, value in result.items()), flush=True)
    return result


# ---------------------------------------------------------------------------------------------------------------- main

PARTS: dict[str, Callable[[Machine], Any]] = {
    "every backend against the plain loop in float64": check_backends,
    "networks that differ in P, in one launch": check_stack,
    "torch.compile": check_compile,
    "training, all callbacks, no synchronisation in a step": check_steps,
    "derivatives and transforms": check_transforms,
    "autocast to bfloat16 and float16": check_autocast,
    "killed and resumed": check_resume,
    "several processes": check_processes,
    "a population against its members": check_population,
    "recurrence": time_recurrence,
    "stacks": time_stacks,
    "training steps": time_training,
    "sweep": time_sweep,
}
"""All parts in order; the last four are timings."""


def run_parts(machine: Machine) -> dict[str, dict[str, Any]]:
    """Do all parts, also after one fails."""
    results: dict[str, dict[str, Any]] = {}
    for name, part in PARTS.items():
        start = time.monotonic()
        print(f"{name} …", flush=True)
        try:
            if machine.seconds_left < 10:
                raise TimeoutError("no time was left")
            outcome, detail = "passed", part(machine)
        except MissingError as error:
            outcome, detail = "missing", f"{error} is not installed"
        except Exception as error:
            outcome = "not run" if isinstance(error, TimeoutError) else "FAILED"
            detail = f"{type(error).__name__}: {error}"
            if outcome == "FAILED":
                traceback.print_exc()
            leave_capture(machine)
        results[name] = {"outcome": outcome, "seconds": round(time.monotonic() - start, 1), "result": detail}
        print(f"  {outcome}: {detail if isinstance(detail, str) else 'see below'}", flush=True)
    return results


def tables(results: dict[str, dict[str, Any]]) -> list[str]:
    """The results as Markdown."""
    outcomes = []
    for name, result in results.items():
        detail = result["result"] if isinstance(result["result"], str) else "below"
        text = detail.replace("\n", " ").replace("|", "\\|")
        outcomes.append([name, result["outcome"], str(result["seconds"]), text[:300]])
    lines = table(["", "outcome", "seconds", ""], outcomes)
    for name, head in (("recurrence", "B, T, M, P, K"), ("stacks", "networks")):
        rows = results[name]["result"]
        if isinstance(rows, str):
            continue
        columns = list(dict.fromkeys(key for row in rows for key in row["milliseconds"]))
        cells = []
        for row in rows:
            case = ", ".join(map(str, row["B,T,M,P,K"])) if "name" in row else str(row["networks"])
            times = row["milliseconds"]
            cells.append([case, *(f"{times[key]['median']:.3f}" if key in times else "–" for key in columns)])
        lines += ["", f"Forward and backward in milliseconds, median, all products in float32: {name}.", ""]
        lines += table([head, *columns], cells)
    rows, keys = results["training steps"]["result"], ("milliseconds", "from a CUDA graph")
    if not isinstance(rows, str):
        cells = [[str(row["networks"]), *(f"{row[key]:.2f}" if key in row else "–" for key in keys)] for row in rows]
        lines += ["", "A training step of a population, in milliseconds.", ""]
        lines += table(["networks", "step", "from a CUDA graph"], cells)
    if not isinstance(results["sweep"]["result"], str):
        lines += ["", "; ".join(f"{key}: {value}" for key, value in results["sweep"]["result"].items())]
    return lines


def quiet() -> None:
    """Leave out warnings, as Lightning warns about each of the many trainings."""
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)


def main(arguments: Sequence[str] | None = None) -> int:
    """Do all parts, print and write the tables; 1 if a check failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=8, help="time after which no further part begins")
    rehearsal = "all parts with tiny sizes on the CPU, with TRITON_INTERPRET=1; writes nothing"
    parser.add_argument("--rehearse", action="store_true", help=rehearsal)
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available() and not options.rehearse:
        print("There is no GPU here that PyTorch can use: nothing was checked, timed or written.")
        return 0
    quiet()
    deadline = time.monotonic() + 60 * options.minutes
    if options.rehearse:
        machine, card = Machine(torch.device("cpu"), deadline), "CPU, a rehearsal"
    else:
        machine = Machine(torch.device("cuda", torch.cuda.current_device()), deadline)
        facts = torch.cuda.get_device_properties(machine.device)
        card = f"{facts.name}, {facts.total_memory / 2**30:.0f} GiB, {facts.multi_processor_count} multiprocessors"
    triton = sys.modules.get("triton") or (importlib.import_module("triton") if operator.triton_is_installed else None)
    versions = f"torch {torch.__version__}, CUDA {torch.version.cuda}, "
    versions += f"Triton {getattr(triton, '__version__', 'missing')}"
    kernel = "" if operator.kernel is not None else "; the C kernel is not compiled here"
    print(f"{card}; {versions}{kernel}", flush=True)
    results = run_parts(machine)
    lines = [f"{card}; {versions}. `make gpu`.", "", *tables(results)]
    if options.rehearse:
        print("\n".join(["", *lines]), flush=True)
    else:
        write("gpu", lines, {"command": "make gpu", "machine": f"{card}; {versions}", "results": results})
    return int(any(result["outcome"] == "FAILED" for result in results.values()))


if __name__ == "__main__":
    sys.exit(main())
