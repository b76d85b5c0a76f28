"""``alrnn prune``: remove the nonlinear units of a trained network one by one, and say how few are enough."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn
from tqdm import tqdm

from lightning_alrnn.analysis.pruning import Removal, Removals, greedy_removals, remove_units
from lightning_alrnn.batch import SequenceBatch
from lightning_alrnn.callbacks.unit_ablation import score_without_units
from lightning_alrnn.cli import ALRNNCLI, resolve_configs
from lightning_alrnn.commands.analyze import print_results, quiet, read_network
from lightning_alrnn.commands.options import parser_of
from lightning_alrnn.extensions.checkpoints import WholeCheckpointIO, config_of, log_directory, read_checkpoint
from lightning_alrnn.files import write_file, write_json
from lightning_alrnn.modules.sequence import ALRNNModule
from lightning_alrnn.nn.alrnn import ALRNN
from lightning_alrnn.plotting.page import Page
from lightning_alrnn.plotting.pruning import plot_pruning
from lightning_alrnn.sweep.pruning import Pruning, PruningPoint, describe, pruning_rules
from lightning_alrnn.sweep.words import counted, number

_EPOCH = 3
"""Duration of an epoch of training in passes over the validation data, for the progress bar."""


class Pruned(NamedTuple):
    """The results of ``alrnn prune``."""

    folder: Path
    pruning: Pruning  # scores by number of remaining units
    checkpoint: Path | None  # smallest network that is enough; ``None`` if no unit can be removed


def prune_network(arguments: Sequence[str]) -> Pruned:
    """Run ``alrnn prune`` with these arguments."""
    options, rest = parser_of("prune").parse_known_args(arguments)
    if options.epochs < 0:
        raise ValueError(f"--epochs must not be negative, got {options.epochs}")
    checkpoint: Path = options.ckpt_path
    content = read_checkpoint(checkpoint)
    folder: Path = options.output_dir or log_directory(checkpoint) / "pruning"
    config = options.config or config_of(checkpoint)
    # metrics that were updated in inference mode cannot be in training
    rest = ["--trainer.inference_mode=false", *rest]
    cli, _ = read_network(checkpoint, () if config is None else (config,), folder, 2, rest)
    units = cast(ALRNN, cast(ALRNNModule, cli.model).core).nonlinear_units
    if units == 0:
        raise ValueError("alrnn prune removes nonlinear units, but this network has none (P = 0): use another network")
    # in passes over the validation data; one for the page
    total = sum(2 * remaining + 2 for remaining in range(units + 1)) + _EPOCH * options.epochs * units + 1
    with (
        quiet(),
        tqdm(total=total, leave=False, bar_format="prune: {percentage:3.0f}%|{bar}| {desc}") as bar,
    ):
        pruner = _Pruner(cli, options.epochs, bar)
        points = [pruner.point(None)]
        rules = pruning_rules(points[0], options.score, options.tolerance)
        for removal in greedy_removals(units, pruner.losses):
            pruner.remove(removal)
            points.append(pruner.point(removal))
            if Pruning(tuple(points), rules).chosen is points[-1]:
                # the network that is chosen in the end is the last one here, because later networks are smaller
                state = {name: value.cpu().clone() for name, value in pruner.model.state_dict().items()}
                smallest = pruner.hyper_parameters(), state
    pruning = Pruning(tuple(points), rules)
    pruned: Path | None = None
    (folder / "checkpoints" / "pruned.ckpt").unlink(missing_ok=True)  # of an earlier call
    if pruning.enough not in (None, units):
        pruned = folder / "checkpoints" / "pruned.ckpt"
        for name in ("optimizer_states", "lr_schedulers", "loops", "callbacks"):
            content.pop(name, None)
        hyper_parameters, content["state_dict"] = smallest
        content["hyper_parameters"] |= hyper_parameters
        WholeCheckpointIO().save_checkpoint(content, pruned)
        if config is not None:  # alrnn analyze looks for it there
            _, path = resolve_configs(["--config", str(config)])
            write_file(folder / "config.yaml", Path(path).read_text(encoding="utf-8"))
    result = Pruned(folder, pruning, pruned)
    _write(result, checkpoint, type(cli.datamodule).__name__, options.epochs)
    return result


def run_prune(arguments: Sequence[str]) -> None:
    """Run ``alrnn prune``."""
    folder, pruning, checkpoint = prune_network(arguments)
    files = {"report": folder / "prune.html", "numbers": folder / "prune.json"}
    print_results(files if checkpoint is None else {**files, "checkpoint": checkpoint}, [pruning.answer])


@torch.no_grad()
def prune_module(module: ALRNNModule, removals: Removals) -> None:
    """Remove nonlinear units of a module's network, and the columns of the readout, in place."""
    module.core, units = remove_units(cast(ALRNN, module.core), removals)
    module.readout.weight = nn.Parameter(module.readout.weight[:, units])
    module.readout.in_features = len(units)
    module.mar_units = int((units < module.mar_units).sum())


class _Pruner:
    """The network during pruning, with its data and the Trainers that score and train it."""

    def __init__(self, cli: ALRNNCLI, epochs: int, bar: Any) -> None:
        self.model = cast(ALRNNModule, cli.model)
        self._cli, self._epochs, self._bar = cli, epochs, bar
        self._remaining = [*range(cast(ALRNN, self.model.core).nonlinear_units)]
        self._trainer: Any = cli.trainer
        self._watch = _WithoutUnits(bar)

    def point(self, removal: Removal | None) -> PruningPoint:
        """Score the current network."""
        self._bar.set_description_str(f"{counted(len(self._remaining), 'nonlinear unit')} left")
        metrics = []
        for score in (self._trainer.validate, self._trainer.test):
            self._trainer.callbacks[:] = [self._watch]  # the module adds its own callbacks each time
            score(self.model, datamodule=self._cli.datamodule, verbose=False)
            metrics.append({name: float(value) for name, value in self._trainer.callback_metrics.items()})
        return PruningPoint(len(self._remaining), removal, *metrics)

    def losses(self, tried: Sequence[Removals]) -> list[float]:
        """Loss in the last validation without one further unit."""
        linearised, silenced = self._watch.losses.chunk(2)
        losses = {"linearise": linearised, "silence": silenced}
        return [float(losses[last.kind][self._remaining.index(last.unit)]) for *_, last in tried]

    def remove(self, removal: Removal) -> None:
        """Remove a unit, and train the network if requested."""
        prune_module(self.model, (removal._replace(unit=self._remaining.index(removal.unit)),))
        self._remaining.remove(removal.unit)
        if not self._epochs:
            return
        before = copy.deepcopy(self.model.state_dict())
        trainer = self._cli.instantiate_trainer(
            max_epochs=self._epochs,
            max_steps=-1,
            callbacks=[_TrainingProgress(self._bar)],
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
        try:
            trainer.fit(self.model, datamodule=self._cli.datamodule)
        except FloatingPointError as error:  # for example if the network diverges without the unit
            self.model.load_state_dict(before)
            warnings.warn(f"{describe(removal)}: the network keeps its weights, because {error}", stacklevel=2)

    def hyper_parameters(self) -> dict[str, Any]:
        """The hyper-parameters that removals change."""
        core = cast(ALRNN, self.model.core)
        return {
            "hidden_size": core.hidden_size,
            "nonlinear_units": core.nonlinear_units,
            "mar_units": self.model.mar_units,
            "input_matrix": "learned",
        }


class _WithoutUnits(Callback):
    """Computes the validation loss without each nonlinear unit."""

    def __init__(self, bar: Any) -> None:
        self._bar = bar

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._sums: list[Tensor] = []

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: SequenceBatch,
        *_: Any,
    ) -> None:
        module = cast(ALRNNModule, pl_module)
        sums = score_without_units(module, cast(ALRNN, module.core), batch)
        self._sums.append(sums.cpu())
        self._bar.update(len(sums) / cast(int, trainer.num_val_batches[0]))

    def on_test_batch_end(self, trainer: Trainer, *_: Any) -> None:
        self._bar.update(1 / cast(int, trainer.num_test_batches[0]))

    @property
    def losses(self) -> Tensor:
        """Losses with each unit linearised, then with each silenced; float64 of shape ``(2 P,)``."""
        sums = torch.stack(self._sums).sum(dim=0)[1:]
        return sums[:, 0] / sums[:, 1]


class _TrainingProgress(Callback):
    """Moves a progress bar with the batches of training."""

    def __init__(self, bar: Any) -> None:
        self._bar = bar

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        self._bar.update(_EPOCH / cast(int, trainer.num_training_batches))


def _write(result: Pruned, checkpoint: Path, data: str, epochs: int) -> None:
    """Write prune.html, prune.json, prune.png and prune.svg."""
    folder, pruning, pruned = result
    rules, total = pruning.rules, pruning.points[0].nonlinear_units
    page = Page(
        f"How few nonlinear units are enough: {data}", f"{total} nonlinear units, removed one by one; {checkpoint}"
    )
    page.text(pruning.answer, answer=True)
    page.figure(
        plot_pruning(pruning),
        f"{rules.score} for each number of remaining nonlinear units, and the unit that was removed last.",
        folder / "prune",
    )
    trained = f"Then the network is trained for {epochs} epochs." if epochs else "The network is not trained further."
    page.text(
        "Each step removes the unit with the least effect on the validation loss. The unit is linearised (its output "
        f"is z) or silenced (its output is zero). {trained} The number of units that is enough is the smallest one "
        "within the tolerance of the best network in validation. The figure and the last columns show the test, which "
        f"did not choose anything. The tolerance is {number(rules.tolerance)} ({rules.tolerance_rule})."
    )
    page.table(
        ("units left", "last removal", rules.validation_score, rules.score, "worse than the best by", "enough"),
        [
            (
                str(point.nonlinear_units),
                describe(point.removal),
                number(point.validation[rules.validation_score]),
                number(point.test[rules.score]),
                number(gap),
                "yes" if gap <= rules.margin else "no",
            )
            for point, gap in zip(pruning.points, pruning.gaps, strict=True)
        ],
    )
    if pruned is not None:
        page.text(f"The network with {counted(pruning.enough or 0, 'nonlinear unit')} is an ordinary AL-RNN:")
        page.code(f"alrnn analyze --ckpt_path {pruned}")
    content = {
        "checkpoint": str(checkpoint),
        "data": data,
        "epochs": epochs,
        "rules": rules,
        "enough": pruning.enough,
        "answer": pruning.answer,
        "points": [{**point._asdict(), "gap": gap} for point, gap in zip(pruning.points, pruning.gaps, strict=True)],
        "pruned_checkpoint": None if pruned is None else str(pruned),
    }
    write_json(folder / "prune.json", content)
    write_file(folder / "prune.html", page.html())
