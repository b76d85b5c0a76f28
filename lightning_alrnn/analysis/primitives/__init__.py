"""What the nonlinearity does: gating, integration, rule-dependent routing and memory-dependent transients, measured.

Each is an effect, the chance of it under exchanged trials, and an intervention that takes the mechanism away and must
change the answer as the mechanism predicts. A primitive counts as found where all three hold. All are about one number
for each trial, the answer y: the network's outputs at the last step, along a direction in which they vary.

Reference:
    The names are those of Brenner & Koppe, TMLR 2026 (arXiv:2506.07919); the measures are this package's own.
"""

from lightning_alrnn.analysis.primitives.find import Primitives, find_primitives, leading_outputs
from lightning_alrnn.analysis.primitives.gates import Gating, gating
from lightning_alrnn.analysis.primitives.integrals import Integration, integration
from lightning_alrnn.analysis.primitives.routes import Routing, routing
from lightning_alrnn.analysis.primitives.transient_memory import Transients, transients
from lightning_alrnn.analysis.primitives.trials import (
    ALPHA,
    DRAWS,
    LEAST_AGREEMENT,
    Trials,
    agreement,
    input_gain,
    read_trials,
)

__all__ = [
    "ALPHA",
    "DRAWS",
    "LEAST_AGREEMENT",
    "Gating",
    "Integration",
    "Primitives",
    "Routing",
    "Transients",
    "Trials",
    "agreement",
    "find_primitives",
    "gating",
    "input_gain",
    "integration",
    "leading_outputs",
    "read_trials",
    "routing",
    "transients",
]
