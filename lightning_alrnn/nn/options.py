"""The options of an ALRNN, for networks that hand them on to it."""

from __future__ import annotations

from inspect import signature
from typing import TYPE_CHECKING, Optional, TypedDict, cast

from lightning_alrnn.nn.alrnn import ALRNN, Init, InitialState, SelfConnections
from lightning_alrnn.nn.scan import Backend

if TYPE_CHECKING:
    from typing import Unpack as Unpack
else:
    # jsonargparse takes names and types from an Unpack, but neither defaults nor help texts. It reads all four from
    # the call of ALRNN that the options end in, if the annotation is no Unpack.
    Unpack = Optional


class ALRNNOptions(TypedDict, total=False):
    """Types of what :class:`ALRNN` takes beyond the sizes, for type checkers; ALRNN says what each option means.

    Example:
        >>> def twins(size: int, **options: Unpack[ALRNNOptions]) -> list[ALRNN]:
        ...     return [ALRNN(2, size, 1, **options), ALRNN(3, size, 1, **options)]
        >>> [rnn.init for rnn in twins(8, init="near_identity")]
        ['near_identity', 'near_identity']
    """

    self_connections: SelfConnections
    init: Init
    initial_state: InitialState
    backend: Backend
    initial_radius: float | None
    initial_coupling: float


ALRNN_DEFAULTS = cast(
    ALRNNOptions,
    {
        name: parameter.default
        for name, parameter in signature(ALRNN).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    },
)
"""Defaults of the options, as :class:`ALRNN` declares them."""
