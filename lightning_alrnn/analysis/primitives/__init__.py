"""Computational primitives: gating, integration, rule-dependent routing and memory-dependent transients.

A primitive is found if its effect is large enough, larger than by chance, and disappears under an intervention that
removes the mechanism. All tests are about the answer of each trial: the outputs of the network at the last step, along
a direction in which they vary.

Reference:
    The names are those of Brenner & Koppe, TMLR 2026 (arXiv:2506.07919); the measures are this package's own.
"""

from lightning_alrnn.analysis.primitives.find import Primitives, class_contrasts, find_primitives, leading_outputs
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
    "class_contrasts",
    "find_primitives",
    "gating",
    "input_gain",
    "integration",
    "leading_outputs",
    "read_trials",
    "routing",
    "transients",
]
