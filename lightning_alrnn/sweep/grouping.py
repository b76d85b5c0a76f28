"""Group the runs of a sweep into populations, which are trained in one step.

folder/populations/NAME/members.json   the runs of a population
folder/populations/NAME/last.ckpt      state of the training, until all runs are done
folder/populations/NAME/halved         exists if the population did not fit into GPU memory and was halved
folder/populations/NAME/refused        exists if the runs were trained one by one, and says why
folder/populations/NAME/log.txt        output of the process
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
from lightning_alrnn.parsing import read_json
from lightning_alrnn.sweep.gpus import Gpu
from lightning_alrnn.sweep.members import Member, MemberFactory
from lightning_alrnn.sweep.plan import SEED, UNITS, Spec
from lightning_alrnn.sweep.rules import DATA_SEED
from lightning_alrnn.sweep.store import is_done, read_record, run_folder

Size = int | Literal["auto", "off"]
CHECKPOINT = "last.ckpt"
HALVED = "halved"
REFUSED = "refused"

_FREE = (SEED, DATA_SEED, UNITS, "model.mar_strength", "model.optimizer.lr")
_SHARE_OF_MEMORY = 0.25
_STATES_BYTES = 32 << 20  # with more states, memory traffic costs more than a separate step
_LARGE = 1.5e8  # products of a step, which take about 30 ms: sharing larger steps saves almost nothing
_MOST = 1000
_FILES = 24, 4  # open files of a process, and of each member: two, and one more while a file is written
_WITHOUT_SLOTS = 8
_NETWORKS_ON_GPU = 0.5  # share of GPU memory, in addition to that for data
_ROWS = 16  # sequences of one program of the GPU kernel
_PROGRAMS = 64  # per multiprocessor: about 4 run at once, and 16 rounds take longer than a step on the host
_OBJECTS_BYTES = 1 << 20  # host memory of a member; 0.35 MB were measured
_COPIES_OF_STATES = 6  # states, inputs of the recurrence, the gradients of both, and two for the rest
_COPIES_OF_PARAMETERS = 10  # network, trained, best, before the step, gradients, two of Adam, three temporary
_SERVED = (StatesCallback, Dashboard, PredictionWriter)  # the last one does nothing in a fit
# options of the Trainer: runs with other values are trained alone
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
    """The runs of one process."""

    specs: tuple[Spec, ...]
    population: str = ""  # name of their population; "" for a run that is trained alone

    def folder(self, sweep: Path) -> Path:
        """Folder of the population, or of the run."""
        return run_folder(sweep, self.specs[0].name, self.population)

    def is_done(self, sweep: Path) -> bool:
        """Whether all runs have finished or diverged."""
        return all(is_done(sweep, spec.name) for spec in self.specs)

    def only(self, specs: Sequence[Spec], sweep: Path) -> Work:
        """The work without runs that others have done; all of it once the training of a population has begun."""
        if not self.population or (self.folder(sweep) / CHECKPOINT).is_file():
            return self
        return make_work(sweep, specs)


def divide(
    folder: Path,
    specs: Sequence[Spec],
    size: Size,  # largest number of runs in a population: "auto" for as many as memory allows, "off" for one
    slots: int | None,  # number of processes, or ``None`` if it is unknown
    announce: Callable[[str], None],
    gpu: Gpu | None = None,  # share of a GPU, or ``None`` for training on the CPU
) -> list[Work]:
    """Group runs that can share a step, in the order of the first run of each group, and announce why others cannot."""
    works: list[Work] = []
    together: dict[str, list[Spec]] = defaultdict(list)
    for spec in specs:
        record = read_record(folder, spec.name)
        # a run that failed may make the others fail; a run that was begun alone resumes from its own checkpoint
        if record is not None and (record.status == "failed" or not record.population):
            works.append(Work((spec,)))
        else:
            settings = {key: value for key, value in spec.settings.items() if key not in _FREE}
            together[json.dumps([spec.core, settings])].append(spec)
    factory = MemberFactory(folder)
    reasons = set()
    for same in together.values():
        most, reason = (1, "") if size == "off" or len(same) == 1 else _most_members(factory, same, slots or 1, gpu)
        reasons.add(reason)
        if isinstance(size, int):
            most = min(most, size)
        elif size == "auto" and slots is None and gpu is None:
            most = min(most, _WITHOUT_SLOTS)
        count = -(-len(same) // most)
        if size == "auto" and slots is not None and most > 1:
            count = min(-(-count // slots) * slots, len(same))  # an equal number for each slot, so that none is idle
        bounds = [round(number * len(same) / count) for number in range(count + 1)]
        works += [make_work(folder, same[begin:end]) for begin, end in pairwise(bounds)]
    for reason in sorted(reasons - {""}):
        announce(f"Runs are trained one by one, because {reason}.")
    places = {spec.name: place for place, spec in enumerate(specs)}
    return sorted(works, key=lambda work: places[work.specs[0].name])


def read_populations(folder: Path) -> list[Work]:
    """The populations of a sweep with a run that is not done and without a run that was done elsewhere."""
    works = []
    for path in sorted((folder / "populations").glob("*/members.json")):
        try:
            members: tuple[Spec, ...] = read_json(path, tuple[Spec, ...])
        except ValueError as error:
            warnings.warn(f"{error}: its runs start again", stacklevel=2)
            continue
        records = [read_record(folder, spec.name) for spec in members]
        done = [record for record in records if record is not None and record.status == "done"]
        # if another sweep has done some of the runs, continuing would train them again
        if len(done) < len(members) and all(record.population == path.parent.name for record in done):
            works.append(Work(members, path.parent.name))
    return works


def make_work(folder: Path, specs: Sequence[Spec]) -> Work:
    """A population of runs, whose members are written to its folder; a single run is trained alone."""
    if len(specs) == 1:
        return Work(tuple(specs))
    name = hashlib.sha256("\n".join(spec.name for spec in specs).encode()).hexdigest()[:12]
    work = Work(tuple(specs), name)
    content = json.dumps([spec._asdict() for spec in specs], indent=1)
    write_file(work.folder(folder) / "members.json", content + "\n")
    return work


def why_alone(member: Member) -> str:
    """The reason why a run must be trained alone; "" if it can be a member of a population."""
    if type(member.module) is not ALRNNModule:
        return f"the model is a {type(member.module).__name__}, not an ALRNNModule"
    data: Any = type(member.data)
    loaders = ("train_dataloader", "val_dataloader", "test_dataloader")
    if not issubclass(data, SequenceDataModule) or any(
        getattr(data, name) is not getattr(SequenceDataModule, name) for name in loaders
    ):
        return f"{data.__name__} makes its own DataLoaders"
    for layer in member.module.modules():
        if isinstance(layer, _BatchNorm) and layer.track_running_stats:  # these are not among the parameters
            return f"{type(layer).__name__} keeps statistics of its batches"
    for callback in member.callbacks:
        if not isinstance(callback, _SERVED):
            return f"{type(callback).__name__} needs a single network"
    for option, allowed in _NEEDED.items():
        if member.trainer.get(option) not in allowed:
            return f"--trainer.{option} is {member.trainer[option]}"
    if member.trainer.get("limit_val_batches") in (0, 0.0):
        return "--trainer.limit_val_batches is 0"
    return ""


def _most_members(factory: MemberFactory, specs: Sequence[Spec], slots: int, gpu: Gpu | None) -> tuple[int, str]:
    """The number of these runs that fit into a population, and the reason if it is one; judged by the first run."""
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
    except Exception as error:  # the run will fail with its own traceback
        return 1, f"the first of them cannot be set up ({type(error).__name__}: {own_error(error) or error})"
    units = int(module.hparams["hidden_size"])
    if gpu is None and steps * units**2 > _LARGE:
        return 1, f"a step of {steps:,} × {units}² products takes so long that sharing it would save nothing"
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
        share = (
            f"{_SHARE_OF_MEMORY:.0%} of the memory" if gpu is None else "their share of the memory or the GPU memory"
        )
        return 1, f"two of them would need more than {share}"
    return max(1, min(int(most), useful, _most_files())), ""


def allow_files(members: int) -> None:
    """Raise the limit of open files to what a population needs, as far as the system allows."""
    limit, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = _FILES[0] + _FILES[1] * members
    if limit != resource.RLIM_INFINITY and limit < needed:
        needed = needed if most == resource.RLIM_INFINITY else min(needed, most)
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, most))


def _most_files() -> int:
    """The largest number of members whose files a process can open."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return _MOST if most == resource.RLIM_INFINITY else min(_MOST, (most - _FILES[0]) // _FILES[1])


def _memory() -> int:
    """Bytes of memory of this machine, or the limit of a container or a job."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    paths = [Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes")]
    limits = [text for path in paths if path.is_file() and (text := path.read_text().strip()).isdecimal()]
    return min([total, *map(int, limits)])
