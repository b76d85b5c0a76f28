"""The parts of runs that share a step, against what ``alrnn fit`` makes of the same arguments."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from command_runs import ADDITION, ONE_EPOCH

from lightning_alrnn.cli import run_cli
from lightning_alrnn.sweep.members import Member, MemberFactory
from lightning_alrnn.sweep.plan import FitCLI, Spec, config_hash, logging_options

TINY = (
    *(*ADDITION, *ONE_EPOCH, "--trainer.num_sanity_val_steps=0", "--trainer.gradient_clip_val=1"),
    *("--model.hidden_size=6", "--trainer.callbacks=RegimeOccupancy", "--trainer.callbacks.figure_every_n_epochs=0"),
    "--trainer.callbacks+=Dashboard",
)


class Fit(FitCLI):
    """``alrnn fit``, which keeps the weights that training began with."""

    def before_fit(self) -> None:
        self.weights = {name: value.clone() for name, value in self.model.state_dict().items()}


def spec(core: str, units: int | None, seed: int, *options: str) -> Spec:
    """A run as ``make_plan`` lists it: what all share, the seeds, what is varied, and P."""
    options_of_run = [f"--model.core={core}", f"--seed_everything={seed}", *options]
    options_of_run += [] if units is None else [f"--model.nonlinear_units={units}"]
    return Spec("-".join([core, str(units), str(seed)]), core, units, seed, {}, (*TINY, *options_of_run))


def assert_made_as_by_fit(member: Member, folder: Path) -> None:
    config: dict[str, Any] = {}
    arguments = [*member.spec.arguments, *logging_options(folder, member.spec.name)]
    fit: Any = run_cli(["fit", *arguments], summary=False, cli=partial(Fit, note=config.update))
    assert member.config == config
    assert config_hash(member.config) == config_hash(config)
    text = (folder / "runs" / member.spec.name / "config.yaml").read_text()
    assert text.splitlines()[0] == member.text.splitlines()[0]  # the version of Lightning
    assert yaml.safe_load(text) == yaml.safe_load(member.text)
    assert list(yaml.safe_load(text)) == list(yaml.safe_load(member.text))
    both: list[Any] = [member.module, fit.model]
    optimizers = [module._optimizer(module.parameters()) for module in both]
    for made, expected in (both, (member.data, fit.datamodule), optimizers):
        assert type(made) is type(expected)
    for made, expected in (both, (member.data, fit.datamodule)):
        assert made.hparams == expected.hparams
        assert made.hparams_initial == expected.hparams_initial
    assert optimizers[0].defaults == optimizers[1].defaults
    before = member.module.state_dict()
    assert before.keys() == fit.weights.keys()
    assert all(value.equal(fit.weights[name]) for name, value in before.items())
    for option in ("max_epochs", "gradient_clip_val"):
        assert member.trainer[option] == getattr(fit.trainer, option)
    kinds = [type(callback) for callback in fit.trainer.callbacks]
    assert [type(callback) for callback in member.callbacks] == kinds[: len(member.callbacks)]


ADAM = ("--model.optimizer=Adam", "--model.optimizer.lr=1", "--model.lr_scheduler=StepLR")


@pytest.mark.parametrize(
    "specs",
    [
        [
            spec("ALRNN", 0, 0, *ADAM, "--model.lr_scheduler.step_size=3", "--model.mar_strength=1"),
            spec("ALRNN", 6, 11, *ADAM, "--model.lr_scheduler.step_size=3", "--model.mar_strength=1"),
        ],
        [spec("GRU", None, 0, "--data.seed=0"), spec("GRU", None, 11, "--data.seed=4")],
    ],
    ids=["whole numbers for others", "a baseline and seeds of the data"],
)
def test_the_parts_of_a_run_are_those_of_alrnn_fit(specs: list[Spec], tmp_path: Path) -> None:
    factory = MemberFactory(tmp_path)
    first, last = (factory.make(each) for each in specs)
    assert len(factory._lines) == 1  # what was read for the one serves the other
    assert_made_as_by_fit(last, tmp_path)
    again = factory.make(specs[0])  # which the other has left as it was
    if specs[0].core == "ALRNN":
        assert_made_as_by_fit(again, tmp_path)
    assert (again.config, again.text) == (first.config, first.text)
    states = [member.module.state_dict() for member in (first, again)]
    assert all(value.equal(states[1][name]) for name, value in states[0].items())
    for name in ("module", "data", "callbacks", "logger", "trainer"):
        assert getattr(again, name) is not getattr(first, name)
    for parts in (
        [{id(callback) for callback in member.callbacks} for member in (first, again)],
        [{value.data_ptr() for value in member.module.parameters() if value.numel()} for member in (first, again)],
    ):
        assert parts[0].isdisjoint(parts[1])


def test_runs_that_differ_in_more_than_numbers_are_read_by_themselves(tmp_path: Path) -> None:
    factory = MemberFactory(tmp_path)
    strengths = [factory.make(spec("ALRNN", 1, 0, f"--model.mar_strength={value}")).module for value in (1, 0.5)]
    assert [module.mar_strength for module in strengths] == [1.0, 0.5]
    assert len(factory._lines) == 2


def test_a_file_behind_a_number_undoes_it(tmp_path: Path) -> None:
    config = tmp_path / "seed.yaml"
    config.write_text("data: {class_path: Addition, init_args: {seed: 9}}\n")
    run = spec("ALRNN", 1, 0, "--data.seed=5", f"--config={config}", "--data.num_workers=0")
    member = MemberFactory(tmp_path).make(run)
    assert member.data.seed == member.config["data.seed"] == 9
