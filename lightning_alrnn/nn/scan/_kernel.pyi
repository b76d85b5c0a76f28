"""See the docstrings of _kernel.c: an address, 0 for none, is followed by its strides, which count elements."""

from typing import TypeAlias

_Place: TypeAlias = tuple[int, ...]

def forward(
    sizes: tuple[int, int, int, int, int],
    threads: int,
    level: str,
    states: int,
    last: int,
    inputs: _Place,
    state: _Place,
    A: _Place,
    W: _Place,
    C: _Place,
    h: _Place,
    P: _Place,
    lengths: _Place,
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
    grad_states: _Place,
    grad_last: _Place,
    states: _Place,
    inputs: _Place,
    state: _Place,
    A: _Place,
    W: _Place,
    C: _Place,
    h: _Place,
    P: _Place,
    lengths: _Place,
    /,
) -> None: ...
def simd_level() -> str: ...
def simd_levels() -> list[str]: ...
