"""See the docstrings of _scan.c: addresses are integers, 0 for none; strides count floats."""

from typing import TypeAlias

_Rows: TypeAlias = tuple[int, int, int]

def forward(
    sizes: tuple[int, int, int, int, int],
    threads: int,
    level: str,
    states: int,
    last: int,
    inputs: _Rows,
    z0: tuple[int, int],
    a: int,
    W: _Rows,
    C: _Rows,
    h: int,
    lengths: int,
    /,
) -> None: ...
def backward(
    sizes: tuple[int, int, int, int, int],
    threads: int,
    level: str,
    grad_a: int,
    grad_W: int,
    grad_C: int,
    grad_h: int,
    grad_z0: int,
    grad_inputs: int,
    grad_states: _Rows,
    grad_last: int,
    states: _Rows,
    inputs: _Rows,
    z0: tuple[int, int],
    a: int,
    W: _Rows,
    C: _Rows,
    lengths: int,
    /,
) -> None: ...
def simd_level() -> str: ...
def simd_levels() -> list[str]: ...
