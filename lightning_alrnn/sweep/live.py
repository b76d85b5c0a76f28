"""stub"""
from __future__ import annotations
import sys
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, TextIO
from lightning_alrnn.sweep.plan import Spec
class RunState(NamedTuple):
    status: Literal["waiting", "running", "done", "diverged", "failed", "stopped"]
    epochs: int = 0
    max_epochs: int = 0
    score: float | None = None
class LiveTable:
    def __init__(self, specs: Sequence[Spec], score: str = "", file: TextIO | None = None) -> None: self.last=""
    def show(self, states: Mapping[str, RunState]) -> None:
        from collections import Counter
        line=str(dict(Counter((s.status, s.epochs) for s in states.values())))
        if line!=self.last: self.last=line; print(line, file=sys.stderr)
    def write(self, line: str) -> None: print(line, file=sys.stderr)
    def close(self) -> None: pass
