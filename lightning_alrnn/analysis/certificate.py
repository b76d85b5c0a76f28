"""Proof that a box holds no further fixed point, by mixed integer programs.

With u, w and t as in :mod:`lightning_alrnn.analysis.pivots` and one binary b_i for each nonlinear unit, the fixed
points with all |z_i| ≤ R of the nonlinear units are the solutions of

    w = q + Q u + T t,    0 = c + S u − Σ₀ t,    0 ≤ u ≤ R b,    0 ≤ w ≤ R (1 − b).

Every known regime is cut off, Σ_{i on} (1 − b_i) + Σ_{i off} b_i ≥ 1, until no solution remains: then the list is
complete within the box, to the tolerances of the solver (HiGHS: about 1e-6 of R).
"""

from __future__ import annotations

import time

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp

from lightning_alrnn.analysis.pivots import Reduced
from lightning_alrnn.analysis.system import Bools, Floats

_INFEASIBLE = 2
"""Status of :func:`scipy.optimize.milp`."""


def certify(reduced: Reduced, known_codes: Bools, radius: Floats, time_limit: float) -> tuple[Bools, bool]:
    """Regimes ``(n, P)`` of further fixed points, and whether the box provably holds no other.

    ``radius`` is R of each nonlinear unit in its scale, shape ``(P,)``.

    Reference: Balas & Jeroslow, SIAM Journal on Applied Mathematics 23:61 (1972), on the cuts.
    """
    deadline = time.monotonic() + time_limit
    units = len(reduced.base)
    others = len(reduced.constant) - units
    table, constant = reduced.table.copy(), reduced.constant.copy()
    table[:, :units] *= radius  # u and w in units of R
    table[:units] /= radius[:, None]
    constant[:units] /= radius
    # columns u, w, t, b
    identity, nothing = np.eye(units), np.zeros((units, units))
    wide = np.zeros((units, others))
    balance = np.hstack(
        (table[:, :units], -np.eye(units + others, units), table[:, units:], np.zeros((units + others, units)))
    )
    scale = np.maximum(np.abs(balance).max(axis=1, initial=1.0), np.abs(constant))
    constraints = [
        LinearConstraint(balance / scale[:, None], -constant / scale, -constant / scale),
        LinearConstraint(np.hstack((identity, nothing, wide, -identity)), -np.inf, 0.0),
        LinearConstraint(np.hstack((nothing, identity, wide, identity)), -np.inf, 1.0),
    ]
    bounds = Bounds(
        np.concatenate((np.zeros(2 * units), np.full(others, -np.inf), np.zeros(units))),
        np.concatenate((np.ones(2 * units), np.full(others, np.inf), np.ones(units))),
    )
    integral = np.repeat((0, 1), (2 * units + others, units))
    codes = known_codes
    while True:
        cuts = codes ^ reduced.base
        rows = np.hstack((np.zeros((len(cuts), 2 * units + others)), np.where(cuts, -1.0, 1.0)))
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            return codes[len(known_codes) :], False
        solution = milp(
            np.zeros(len(integral)),
            integrality=integral,
            bounds=bounds,
            constraints=[*constraints, LinearConstraint(rows, 1.0 - cuts.sum(axis=1), np.inf)],
            options={"time_limit": remaining},
        )
        if solution.x is None:
            return codes[len(known_codes) :], solution.status == _INFEASIBLE
        code = (solution.x[-units:] > 0.5) ^ reduced.base
        if (codes == code).all(axis=1).any():  # the solver's tolerances let it through: no proof
            return codes[len(known_codes) :], False
        codes = np.vstack((codes, code))
