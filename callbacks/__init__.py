"""Lightning callbacks. Most of them log the keys of a reading, see ``lightning_alrnn.readings``."""

if __name__ != "lightning_alrnn.callbacks":
    raise ImportError(
        f"this folder is part of the package lightning_alrnn, not the package {__name__!r}: "
        "use `from lightning_alrnn.callbacks import …`"
    )

from lightning_alrnn.callbacks.base import PeriodicCallback, ReadingCallback, StatesCallback
from lightning_alrnn.callbacks.dashboard import Dashboard
from lightning_alrnn.callbacks.fixed_points import FixedPoints
from lightning_alrnn.callbacks.latent_trajectories import LatentTrajectories
from lightning_alrnn.callbacks.length_accuracy import LengthAccuracy
from lightning_alrnn.callbacks.member_callbacks import MemberCallbacks
from lightning_alrnn.callbacks.neural_fit import NeuralFit
from lightning_alrnn.callbacks.of_regimes import ActiveUnits, RegimeOccupancy, Spectrum
from lightning_alrnn.callbacks.prediction_writer import PredictionWriter
from lightning_alrnn.callbacks.unit_ablation import UnitAblation
from lightning_alrnn.extensions.divergence_guard import DivergenceGuard
from lightning_alrnn.extensions.exact_resume import ExactResume
from lightning_alrnn.extensions.signals_at_step_end import SignalsAtStepEnd

__all__ = [
    "ActiveUnits",
    "Dashboard",
    "DivergenceGuard",
    "ExactResume",
    "FixedPoints",
    "LatentTrajectories",
    "LengthAccuracy",
    "MemberCallbacks",
    "NeuralFit",
    "PeriodicCallback",
    "PredictionWriter",
    "ReadingCallback",
    "RegimeOccupancy",
    "SignalsAtStepEnd",
    "Spectrum",
    "StatesCallback",
    "UnitAblation",
]
