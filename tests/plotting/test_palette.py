"""A regime has one colour, and a colour one regime, in every figure."""

from __future__ import annotations

import itertools

import pytest
import torch
from figures import texts
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import rgb_to_hsv, to_hex, to_rgb
from torch import Tensor

from lightning_alrnn.analysis.fixed_point_search import eigenvalues_of_regimes, fixed_points
from lightning_alrnn.analysis.perturbations import input_memory, nonnormality
from lightning_alrnn.analysis.regime_statistics import bitcode, count_regimes
from lightning_alrnn.analysis.spectrum import principal_components, regime_spectrum
from lightning_alrnn.nn import ALRNN
from lightning_alrnn.plotting.fixed_points import plot_eigenvalues
from lightning_alrnn.plotting.modes import plot_memory
from lightning_alrnn.plotting.palette import OTHERS, regime_colours, regime_label
from lightning_alrnn.plotting.raster import plot_regime_raster
from lightning_alrnn.plotting.regimes import plot_regimes
from lightning_alrnn.plotting.spectrum import plot_spectrum
from lightning_alrnn.plotting.trajectories import Trajectory, plot_trajectories


def patterns(units: int) -> Tensor:
    return torch.tensor(list(itertools.product((False, True), repeat=units)), dtype=torch.bool)


def hue(colour: str) -> float:
    return float(rgb_to_hsv(to_rgb(colour))[0])


def alone(code: Tensor) -> str:
    return regime_colours(code.unsqueeze(0))[0]


@pytest.mark.parametrize("units", [0, 1, 2, 3, 4])
def test_few_units_give_each_regime_its_colour(units: int) -> None:
    colours = regime_colours(patterns(units), most=16)
    assert OTHERS not in colours
    assert len(set(colours)) == 2**units


@pytest.mark.parametrize(("units", "apart"), [(5, 3), (8, 3), (15, 2)])
def test_regimes_that_differ_in_few_units_never_share_a_colour(units: int, apart: int) -> None:
    start = torch.rand(units, generator=torch.Generator().manual_seed(units)) < 0.5
    for count in range(1, apart + 1):
        for flipped in itertools.combinations(range(units), count):
            other = start.clone()
            other[list(flipped)] ^= True
            assert alone(other) != alone(start)


@given(st.integers(0, 40), st.integers(1, 30), st.integers(0, 2**32 - 1), st.integers(1, 16))
def test_a_colour_is_of_one_regime_and_in_the_shade_that_this_one_has_alone(
    units: int, regimes: int, seed: int, most: int
) -> None:
    codes = torch.rand(regimes, units, generator=torch.Generator().manual_seed(seed)) < 0.5
    codes = codes.unique(dim=0) if units else codes[:1]
    colours = regime_colours(codes, most)
    shown = [colour for colour in colours if colour != OTHERS]
    assert len(set(shown)) == len(shown) <= most
    first = set()
    for code, colour in zip(codes, colours, strict=True):
        full = alone(code)
        if full not in first:
            first.add(full)
            assert colour in (full, OTHERS)
        elif colour != OTHERS:
            assert hue(colour) == pytest.approx(hue(full), abs=0.02)
            assert sum(to_rgb(colour)) < sum(to_rgb(full))


def test_the_third_of_a_colour_is_grey() -> None:
    codes = torch.zeros(3, 16, dtype=torch.bool)
    codes[1, :2] = codes[1, 8] = True  # 1 ^ 2 ^ 3 = 0
    codes[2, 0] = codes[2, 15] = True  # the sixteenth unit is as the first
    full, darker, none = regime_colours(codes)
    assert full == alone(codes[0]) == alone(codes[1]) == alone(codes[2])
    assert darker not in (full, OTHERS)
    assert none == OTHERS
    assert alone(torch.ones(0, dtype=torch.bool)) == full


def test_labels() -> None:
    assert regime_label(torch.tensor([True, False]), 3) == "10"
    assert regime_label(torch.ones(13, dtype=torch.bool), 3) == "rank 3"
    assert regime_label(torch.ones(0, dtype=torch.bool), 1) == "linear"


def test_all_figures_agree() -> None:
    torch.manual_seed(1)
    rnn = ALRNN(2, 6, 4)
    states = torch.randn(40, 12, 6) + 0.4
    found = count_regimes(states, 4)
    eigenvalues = eigenvalues_of_regimes(rnn, found.codes)
    components = principal_components(states)
    expected = {bitcode(code): alone(code) for code in found.codes}
    assert len(set(expected.values())) == 16  # of four units
    trajectories = [Trajectory(row, torch.arange(1, 13)) for row in states]
    memory = plot_memory(input_memory(rnn, states[:2], 3), nonnormality(rnn, found.codes), found.codes)
    legends = (
        plot_regime_raster(states, 4).axes[0].get_legend(),
        plot_trajectories(trajectories, components, 4).axes[1].get_legend(),
        plot_eigenvalues(fixed_points(rnn), found.codes, eigenvalues).axes[1].get_legend(),
        plot_spectrum(regime_spectrum(rnn, found), components).axes[0].get_legend(),
        memory.axes[1].get_legend(),
    )
    for legend in legends:
        assert legend is not None
        names = [name.split()[0] for name in texts(legend)]
        entries = {name: handle for name, handle in zip(names, legend.legend_handles, strict=True) if name != "8"}
        assert len(entries) == 8  # beside "8 others"
        for name, handle in entries.items():
            colour = handle.get_facecolor() if hasattr(handle, "get_facecolor") else handle.get_color()  # type: ignore[union-attr]
            assert to_hex(colour) == expected[name]

    axes = plot_regimes(found).axes[0]
    for label, bar in zip(axes.get_xticklabels(), axes.patches, strict=True):
        assert to_hex(bar.get_facecolor()) in (OTHERS, expected[label.get_text()])
