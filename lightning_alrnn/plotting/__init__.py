"""Figures drawn from results: matplotlib ``Figure`` objects, no pyplot and no global state.

Matplotlib takes its time to import: it is imported with the first of them that is used.
"""

from typing import TYPE_CHECKING

from lightning_alrnn.lazy import import_on_use

if TYPE_CHECKING:
    from lightning_alrnn.plotting.ablation import plot_ablation
    from lightning_alrnn.plotting.comparison import plot_comparison
    from lightning_alrnn.plotting.fixed_points import plot_eigenvalues, plot_state_space, plot_tracking
    from lightning_alrnn.plotting.length import plot_length_accuracy
    from lightning_alrnn.plotting.neural import ExampleTrial, plot_neural_fit, plot_spike_agreement
    from lightning_alrnn.plotting.pruning import plot_pruning
    from lightning_alrnn.plotting.regimes import (
        plot_group_regimes,
        plot_phases,
        plot_regime_sharing,
        plot_regimes,
        plot_units,
    )
    from lightning_alrnn.plotting.spectrum import plot_spectrum
    from lightning_alrnn.plotting.sweep import plot_verdict
    from lightning_alrnn.plotting.trajectories import Trajectory, plot_trajectories

__all__ = [
    "ExampleTrial",
    "Trajectory",
    "plot_ablation",
    "plot_comparison",
    "plot_eigenvalues",
    "plot_group_regimes",
    "plot_length_accuracy",
    "plot_neural_fit",
    "plot_phases",
    "plot_pruning",
    "plot_regime_sharing",
    "plot_regimes",
    "plot_spectrum",
    "plot_spike_agreement",
    "plot_state_space",
    "plot_tracking",
    "plot_trajectories",
    "plot_units",
    "plot_verdict",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = import_on_use(
        __name__,
        [
            "ablation",
            "comparison",
            "fixed_points",
            "length",
            "neural",
            "pruning",
            "regimes",
            "spectrum",
            "sweep",
            "trajectories",
        ],
        __all__,
    )
