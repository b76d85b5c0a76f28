"""Which runs of a sweep are trained in one step: those that can are put together, those that are too large are not.

folder/populations/NAME/members.json   the runs of a population
folder/populations/NAME/last.ckpt      where their training is, until all of them are done
folder/populations/NAME/halved         there if they are too many for a GPU's memory, and each half is one instead
folder/populations/NAME/log.txt        what the process wrote that trained them
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import warnings
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from lightning_alrnn.callbacks.base import StatesCallback
from lightning_alrnn.callbacks.dashboard import Dashboard
from lightning_alrnn.callbacks.prediction_writer import PredictionWriter
from lightning_alrnn.datamodules.base import SequenceDataModule
from lightning_alrnn.datamodules.population import SHARE_OF_GPU, data_bytes
from lightning_alrnn.errors import own_error
from lightning_alrnn.files import write_file
from lightning_alrnn.modules.population import PopulationModule
from lightning_alrnn.modules.sequence import ALRNNModule
from lightning_alrnn.sweep.gpus import Gpu
from lightning_alrnn.sweep.members import Member, MemberFactory
from lightning_alrnn.sweep.plan import DATA_SEED, SEED, UNITS, Spec
from lightning_alrnn.sweep.store import read_record, run_folder

Size = int | Literal["auto", "off"]

_FREE = (SEED, DATA_SEED, UNITS, "model.mar_strength", "model.optimizer.lr")
_SHARE_OF_MEMORY = 0.25
_STATES_BYTES = 32 << 20  # beyond, the memory that is written and read again costs more than a step of its own
_LARGE = 1.5e8  # products a step and pass, some 30 ms in all: above it next to nothing is saved
_MOST = 1000
_FILES = 24, 4  # of a process and of each member, which has two open files and, while it is written, one more
_WITHOUT_SLOTS = 8
_NETWORKS_ON_GPU = 0.5  # of its memory, beside that for data
_ROWS = 16  # sequences that one program of the GPU's kernel takes
_PROGRAMS = 64  # a multiprocessor: some 4 run at once, and in 16 turns they take longer than a step does on the host
_OBJECTS_BYTES = 1 << 20  # of a member, on the host; 0.35 MB were measured
_COPIES_OF_STATES = 6  # states, inputs of the recurrence, the gradients of both, and two for all else
_COPIES_OF_PARAMETERS = 10  # the network's, trained, best, before the step, gradients, two of Adam, three in passing
_SERVED = (StatesCallback, Dashboard, PredictionWriter)  # the last does nothing in a fit
# of the Trainer: other values are for runs by themselves
_NEEDED: dict[str, tuple[Any, ...]] = {
    "strategy": ("auto",),
    "devices": ("auto", 1, "1"),
    "num_nodes": (1, "1"),
    "precision": (None, 32, "32", "32-true", 64, "64", "64-true"),
    "fast_dev_run": (False,),
    "max_time": (None,),
    "overfit_batches": (0.0,),
    "val_check_interval": (None,),
    "min_epochs": (None,),
    "min_steps": (None,),
    "enable_checkpointing": (None, True),
    "use_distributed_sampler": (True,),
    "profiler": (None,),
    "detect_anomaly": (False,),
    "barebones": (False,),
    "plugins": (None,),
    "reload_dataloaders_every_n_epochs": (0,),
}


class Work(NamedTuple):
    """Runs that one process does."""

    specs: tuple[Spec, ...]
    population: str = ""  # name of the population that they are trained in; "" for a run by itself

    def folder(self, sweep: Path) -> Path:
        """Folder of the population, or of the run, that holds the process's log and SLURM's job."""
        if self.population:
            return population_folder(sweep, self.population)
        return run_folder(sweep, self.specs[0].name)

    def only(self, specs: Sequence[Spec], sweep: Path) -> Work:
        """What is left of the work when others have done the rest; all of it once a population's training has begun."""
        if not self.population or checkpoint_of(sweep, self.population).is_file():
            return self
        return make_work(sweep, specs)


def population_folder(sweep: Path, name: str) -> Path:
    """Folder of a population."""
    return sweep / "populations" / name


def checkpoint_of(sweep: Path, name: str) -> Path:
    """Path of the checkpoint of a population's training, which is kept until all members are done."""
    return population_folder(sweep, name) / "last.ckpt"


def halved_mark(sweep: Path, name: str) -> Path:
    """The file that tells that a population was too large, and that each half of it is a population instead.

    Whoever begins the population again, as a job of SLURM does that was requeued, goes on with the halves.
    """
    return population_folder(sweep, name) / "halved"


def divide(
    folder: Path,
    specs: Sequence[Spec],
    size: Size,
    slots: int | None,
    announce: Callable[[str], None],
    gpu: Gpu | None = None,
) -> list[Work]:
    """Put runs together that can share a step, in the order of the first run of each work.

    ``size`` is the largest population: "auto" for as many as there is memory for, shared out to the slots (the
    processes, ``None`` where nobody knows their number); "off" for one. ``announce`` is told why runs are trained by
    themselves that were to share a step. ``gpu`` is ``None`` where a process trains on the CPU.
    """
    works: list[Work] = []
    together: dict[str, list[Spec]] = defaultdict(list)
    for spec in specs:
        record = read_record(folder, spec.name)
        # what has failed might fail the others again; what was begun by itself goes on from its own checkpoint
        if record is not None and (record.status == "failed" or not record.population):
            works.append(Work((spec,)))
        else:
            settings = {key: value for key, value in spec.settings.items() if key not in _FREE}
            together[json.dumps([spec.core, settings])].append(spec)
    factory = MemberFactory(folder)
    reasons = set()
    for same in together.values():
        most, reason = (1, "") if size == "off" or len(same) == 1 else _most_members(factory, same, slots or 1, gpu)
        if reason:
            reasons.add(reason)
        if size != "auto":
            most = min(most, 1 if size == "off" else size)
        elif slots is None and gpu is None:
            most = min(most, _WITHOUT_SLOTS)
        count = -(-len(same) // most)
        if size == "auto" and slots is not None and most > 1:
            count = min(-(-count // slots) * slots, len(same))  # or a slot would be idle while another has its second
        bounds = [round(number * len(same) / count) for number in range(count + 1)]
        for begin, end in pairwise(bounds):
            works.append(make_work(folder, same[begin:end]))
    for reason in sorted(reasons):
        announce(f"runs are trained one by one, as {reason}")
    places = {spec.name: place for place, spec in enumerate(specs)}
    return sorted(works, key=lambda work: places[work.specs[0].name])


def read_populations(folder: Path) -> list[Work]:
    """The populations of a sweep, begun or not, with a member to be done and none that was done outside of them."""
    works = []
    for path in sorted((folder / "populations").glob("*/members.json")):
        try:
            members = tuple(
                Spec(**{**values, "arguments": tuple(values["arguments"])})
                for values in json.loads(path.read_text(encoding="utf-8"))
            )
        except (ValueError, TypeError, KeyError) as error:
            warnings.warn(f"{path} cannot be read, so its runs begin anew: {error!r}", stacklevel=2)
            continue
        records = [read_record(folder, spec.name) for spec in members]
        done = [record for record in records if record is not None and record.status == "done"]
        # where another sweep has done some of them, going on would train and write these again
        if len(done) < len(members) and all(record.population == path.parent.name for record in done):
            works.append(Work(members, path.parent.name))
    return works


def make_work(folder: Path, specs: Sequence[Spec]) -> Work:
    """A population of runs, noted in the folder so that it can be gone on with; of one run, that run by itself."""
    if len(specs) == 1:
        return Work(tuple(specs))
    name = hashlib.sha256("\n".join(spec.name for spec in specs).encode()).hexdigest()[:12]
    content = json.dumps([spec._asdict() for spec in specs], indent=1)
    write_file(population_folder(folder, name) / "members.json", content + "\n")
    return Work(tuple(specs), name)


def why_alone(member: Member) -> str:
    """Why a run is trained by itself; "" where it can be a member of a population."""
    if type(member.module) is not ALRNNModule:
        return f"the model is a {type(member.module).__name__}, no ALRNNModule"
    data: Any = type(member.data)
    loaders = ("train_dataloader", "val_dataloader", "test_dataloader")
    if not issubclass(data, SequenceDataModule) or any(
        getattr(data, name) is not getattr(SequenceDataModule, name) for name in loaders
    ):
        return f"{data.__name__} has loaders of its own"
    for layer in member.module.modules():
        if isinstance(layer, _BatchNorm) and layer.track_running_stats:  # which are of no network's parameters
            return f"{type(layer).__name__} keeps statistics of its batches"
    for callback in member.callbacks:
        if not isinstance(callback, _SERVED):
            return f"{type(callback).__name__} looks at one network"
    for option, allowed in _NEEDED.items():
        if member.trainer.get(option) not in allowed:
            return f"--trainer.{option} is {member.trainer[option]}"
    if member.trainer.get("limit_val_batches") in (0, 0.0):
        return "--trainer.limit_val_batches is 0"
    return ""


def _most_members(factory: MemberFactory, specs: Sequence[Spec], slots: int, gpu: Gpu | None) -> tuple[int, str]:
    """How many of these runs fit into a population, and why it is but one; judged by the first of them."""
    try:
        member = factory.make(specs[0])
        if reason := why_alone(member):
            return 1, reason
        module, data = cast(ALRNNModule, member.module), cast(SequenceDataModule, member.data)
        PopulationModule([module]).configure_optimizers()
        data.prepare_data()
        data.setup("fit")
        batch = next(iter(data.train_dataloader()))
        with torch.no_grad():
            steps = len(batch.inputs) * module.encode(batch.inputs[:1], batch.lengths[:1])[0].shape[1]
        size = data_bytes(data)
    except Exception as error:  # the run itself says more
        return 1, f"the first of them cannot be made ({type(error).__name__}: {own_error(error) or error})"
    units = int(module.hparams["hidden_size"])
    if gpu is None and steps * units**2 > _LARGE:
        return 1, f"a step of {steps:,} × {units}² products takes so long that nothing would be saved"
    states = 4 * steps * units
    budget = _SHARE_OF_MEMORY * _memory() / slots
    data_share = size * len({spec.seed for spec in specs}) / len(specs)
    network = _COPIES_OF_PARAMETERS * sum(parameter.nbytes for parameter in module.parameters())
    network += sum(field.nbytes for field in batch if field is not None)
    step = network + _COPIES_OF_STATES * states
    if gpu is None:
        most = budget / (step + data_share)
        useful = _STATES_BYTES // states
    else:
        most = min(
            budget / (network + data_share + _OBJECTS_BYTES),
            _NETWORKS_ON_GPU * gpu.memory / step,
            SHARE_OF_GPU * gpu.memory / max(data_share, 1),
        )
        useful = _PROGRAMS * gpu.multiprocessors // -(-len(batch.inputs) // _ROWS)
    if most < 2:
        share = f"{_SHARE_OF_MEMORY:.0%} of the memory" if gpu is None else "their share of the memory, or of the GPU's"
        return 1, f"two of them would take more than {share}"
    return max(1, min(int(most), useful, _most_files())), ""


def allow_files(members: int) -> None:
    """Let this process open as many files as a population has, as far as the system allows."""
    limit, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = _FILES[0] + _FILES[1] * members
    if limit != resource.RLIM_INFINITY and limit < needed:
        needed = needed if most == resource.RLIM_INFINITY else min(needed, most)
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, most))


def _most_files() -> int:
    """How many members a population may have whose files a process can open."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return _MOST if most == resource.RLIM_INFINITY else min(_MOST, (most - _FILES[0]) // _FILES[1])


def _memory() -> int:
    """Bytes of memory that this machine has, or that a container or a job is given."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = [Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes")]
    given = [text for path in limits if path.is_file() and (text := path.read_text().strip()).isdecimal()]
    return min([total, *map(int, given)])
