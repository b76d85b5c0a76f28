"""From the options of a sweep to its runs."""

from __future__ import annotations

import re
import string
from inspect import signature

import pytest
from command_runs import refused
from hypothesis import given
from hypothesis import strategies as st
from quick_sweeps import parse_once

from lightning_alrnn import ALRNN
from lightning_alrnn.sweep.plan import (
    _ALRNN_ONLY,
    config_hash,
    differences,
    make_plan,
    parse_grid,
    read_config,
)
from lightning_alrnn.sweep.rules import Value

BASE = ["--data=Addition", "--model.hidden_size=6"]

_keys = st.lists(st.text(string.ascii_lowercase + "_", min_size=1, max_size=6), min_size=2, max_size=4).map(".".join)
_words = st.text(string.ascii_letters + "_./", min_size=1, max_size=8).filter(
    lambda text: text.lower() not in ("true", "false", "null", "nan", "inf", "infinity")
)
_values: st.SearchStrategy[Value] = st.one_of(
    st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.booleans(), st.none(), _words
)


@pytest.fixture(autouse=True)
def _parsed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    parse_once(monkeypatch)


def written(value: Value) -> str:
    return "null" if value is None else str(value)


@given(st.dictionaries(_keys, st.lists(_values, min_size=1, max_size=4, unique_by=lambda v: written(v).lower())))
def test_a_grid_is_read_as_it_was_written(grid: dict[str, list[Value]]) -> None:
    # 1 == 1.0 == True are the same setting
    grid = {key: values for key, values in grid.items() if len({*values}) == len(values) and "init_args" not in key}
    items = [f"{key}={','.join(map(written, values))}" for key, values in grid.items()]
    parsed = parse_grid(items)
    assert parsed == grid
    assert [list(map(type, values)) for values in parsed.values()] == [list(map(type, g)) for g in grid.values()]


def test_a_comma_in_brackets_or_quotes_parts_nothing() -> None:
    assert parse_grid(["model.betas=[0.9,0.99],[0.5,0.9]", 'a.b={"x": 1, "y": 2},"c,d"']) == {
        "model.betas": ["[0.9,0.99]", "[0.5,0.9]"],
        "a.b": ['{"x": 1, "y": 2}', '"c,d"'],
    }


@pytest.mark.parametrize("text", ["model.init", "model.init=", "=1", "model.init=a,,b", "model.init=a,", "a.b=1,1.0"])
def test_grids_that_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="--grid"):
        parse_grid([text])


def test_a_baseline_is_not_repeated_for_what_an_alrnn_alone_has() -> None:
    layer = set(signature(ALRNN).parameters) - {"input_size", "hidden_size"}
    assert {f"model.{name}" for name in layer} <= _ALRNN_ONLY
    # what a GRU trains with too makes other runs of it
    assert not {"model.hidden_size", "model.optimizer", "model.objective", "model.encoder"} & _ALRNN_ONLY
    grid = parse_grid(["model.initial_coupling=0.9,0.95", "model.mar_strength=0,0.1"])
    plan = make_plan([*BASE, "--model.init=near_identity"], [0, 2], [0, 1], ["ALRNN", "GRU"], grid)
    assert [spec.name for spec in plan.runs if spec.core == "GRU"] == ["GRU-seed0", "GRU-seed1"]
    assert sum(spec.core == "ALRNN" for spec in plan.runs) == 16


def test_runs_their_order_names_and_arguments() -> None:
    grid = parse_grid(["data.train_size=100,300", "model.init_args.init=gaussian,near_identity"])
    plan = make_plan(BASE, [0, 2], [3, 1], ["ALRNN", "GRU"], grid)
    # a baseline has no P and no init, and is run once for each size and seed
    assert len(plan.runs) == 2 * (2 * 2 * 2 + 2)
    assert [spec.seed for spec in plan.runs] == [3] * 10 + [1] * 10
    first, last_alrnn, first_gru = plan.runs[0], plan.runs[7], plan.runs[8]
    assert first.name == "ALRNN-P0-seed3-train_size=100-init=gaussian"
    assert last_alrnn.name == "ALRNN-P2-seed3-train_size=300-init=near_identity"
    assert first_gru.name == "GRU-seed3-train_size=100"
    assert first.settings == {"data.train_size": 100, "model.init": "gaussian"}
    assert first_gru.settings == {"data.train_size": 100}
    assert (first.nonlinear_units, first_gru.nonlinear_units) == (0, None)
    assert len({spec.name for spec in plan.runs}) == len(plan.runs)
    assert plan.varied == ("data.seed", "data.train_size", "model.init")
    settings: dict[str, Value] = {"data.train_size": 300, "model.init": "near_identity"}
    numbers = {"seed_everything": 3, "data.seed": 3, "model.nonlinear_units": 2, "model.hidden_size": 6}
    expected = {**settings, **numbers, "model.core": "ALRNN", "trainer.devices": "1"}.items()
    assert expected <= {**read_config(last_alrnn.arguments)}.items()
    assert read_config(first_gru.arguments)["model.core"] == "GRU"


def test_data_that_are_the_same_for_all_seeds() -> None:
    plan = make_plan([*BASE, "--data.seed=7"], [0], [1])
    assert read_config(plan.runs[0].arguments)["data.seed"] == 7
    assert plan.varied == ()
    assert plan.configs["ALRNN"]["data.seed"] == 7


def test_names_stay_apart_where_their_letters_would_not_tell() -> None:
    runs = make_plan(BASE, [0], [0], grid={"model.optimizer.betas": ["[0.9,0.99]", "[0.9, 0.99]"]}).runs
    assert len({spec.name for spec in runs}) == 2
    assert all(re.fullmatch(r"[\w.=+-]+", spec.name) for spec in runs)


@pytest.mark.parametrize(
    ("arguments", "grid", "message"),
    [
        (BASE, {"data.train_sise": [1]}, "Addition has no option train_sise.*it has .*train_size"),
        (["--data=IMDb"], {"data.train_size": [1]}, "IMDb has no option train_size"),
        (BASE, {"model.init": ["gaussian", "gausian"]}, "--grid model.init=gausian: .*near_identity"),
        (BASE, {"model.optimizer.lrr": [1]}, "has no option 'lrr'"),
        (BASE, {"epochs": [1]}, "epochs is not an option of `alrnn fit`"),
        ([*BASE, "--model.init=gaussian"], {"model.init": ["gaussian"]}, "--model.init has one value"),
        ([*BASE, "--model.init_args.nonlinear_units=3"], {}, "use --nonlinear_units"),
        ([*BASE, "--seed_everything=3"], {}, "use --seeds"),
        ([*BASE, "--trainer.logger.save_dir=x"], {}, "use --output_dir"),
        ([*BASE, "--trainer.epochs=3"], {}, "trainer.epochs"),
    ],
)
def test_wrong_options_fail_before_anything_runs(
    arguments: list[str], grid: dict[str, list[Value]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make_plan(arguments, [0], [0], grid=grid)


def test_more_nonlinear_units_than_units() -> None:
    assert len(make_plan(BASE, [6], [0]).runs) == 1  # all units may be nonlinear
    with pytest.raises(ValueError, match=r"M=6\), got 7"):
        make_plan(BASE, [0, 7], [0])
    with pytest.raises(ValueError, match="core must be 'ALRNN', 'RNN', 'GRU'"):
        make_plan(BASE, [0], [0], ["GRUU"])


def test_a_configuration_s_hash_and_differences() -> None:
    config = {"model.hidden_size": 6, "data.num_workers": 0, "trainer.logger.save_dir": "a"}
    assert config_hash(config) == config_hash(config | {"data.num_workers": 4, "trainer.logger.save_dir": "b"})
    assert config_hash(config) != config_hash(config | {"model.hidden_size": 7})
    assert differences(config, config) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--seeds=3", "--output_dir=d"], "--nonlinear_units is missing"),
        (["--nonlinear_units=0", "--seeds=3", "--output_dir=d", "--core=GRU"], "is for the core ALRNN"),
        (["--seeds=5..40", "--output_dir=d", "--core=GRU"], "at least two P, got --core GRU: state a number of seeds"),
        (["--nonlinear_units=0", "--seeds=5..9", "--output_dir=d"], "compares at least two P, got --nonlinear_units 0"),
        (["--nonlinear_units=0", "--seeds=3"], "required: --output_dir"),
        (["--nonlinear_units=0", "--seeds=3", "--output_dir=d", "--gpus=2"], "--gpus is for --executor slurm"),
        (["--nonlinear_units=0", "--seeds=3", "--output_dir=d", "--jobs=0"], "--jobs must be at least 1"),
        (["--nonlinear_units=0", "--seeds=3", "--output_dir=d", "--trainer.devices=2"], "need --executor slurm"),
    ],
)
def test_wrong_options_of_the_command(options: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert message in refused(["sweep", *options, *BASE], capsys)
