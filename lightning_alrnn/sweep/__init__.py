"""Many runs over P and seeds, and the verdict: how many nonlinear units does a task need?"""

from typing import TYPE_CHECKING

from lightning_alrnn.lazy import import_on_use

if TYPE_CHECKING:
    from lightning_alrnn.sweep.claims import Claims
    from lightning_alrnn.sweep.estimates import Estimate
    from lightning_alrnn.sweep.intervals import Gaps, Interval, gap_intervals, share_interval
    from lightning_alrnn.sweep.learning_time import LearningTime
    from lightning_alrnn.sweep.pruning import Pruning, PruningPoint, pruning_rules
    from lightning_alrnn.sweep.rules import Rules, Run, choose_score, higher_is_better
    from lightning_alrnn.sweep.store import read_runs
    from lightning_alrnn.sweep.verdict import Baseline, Dependence, SizeVerdict, Verdict, judge

__all__ = [
    "Baseline",
    "Claims",
    "Dependence",
    "Estimate",
    "Gaps",
    "Interval",
    "LearningTime",
    "Pruning",
    "PruningPoint",
    "Rules",
    "Run",
    "SizeVerdict",
    "Verdict",
    "choose_score",
    "gap_intervals",
    "higher_is_better",
    "judge",
    "pruning_rules",
    "read_runs",
    "share_interval",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = import_on_use(
        __name__,
        ["claims", "estimates", "intervals", "learning_time", "pruning", "rules", "store", "verdict", "words"],
        __all__,
    )
