"""See the docstrings of _kernel.c: addresses are integers, 0 for none; strides count elements."""

from typing import TypeAlias

_Two: TypeAlias = tuple[int, int]
_Three: TypeAlias = tuple[int, int, int]
_Four: TypeAlias = tuple[int, int, int, int]

def forward(
    sizes: tuple[int, int, int, int, int],
    threads: int,
    level: str,
    states: int,
    last: int,
    inputs: _Four,
    state: _Three,
    A: _Two,
    W: _Four,
    C: _Four,
    h: _Two,
    P: _Two,
    lengths: _Two,
    /,
) -> None: ...
def backward(
    sizes: tuple[int, int, int, int, int],
    threads: int,
    level: str,
    grad_A: int,
    grad_W: int,
    grad_C: int,
    grad_h: int,
    grad_state: int,
    grad_inputs: int,
    grad_states: _Four,
    grad_last: _Two,
    states: _Four,
    inputs: _Four,
    state: _Three,
    A: _Two,
    W: _Four,
    C: _Four,
    h: _Two,
    P: _Two,
    lengths: _Two,
    /,
) -> None: ...
def simd_level() -> str: ...
def simd_levels() -> list[str]: ...
