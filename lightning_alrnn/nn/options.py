"""Options of an ALRNN, for networks that contain one."""

from __future__ import annotations

from inspect import signature
from typing import TYPE_CHECKING, Optional, TypedDict, cast

from lightning_alrnn.nn.alrnn import ALRNN, Init, InitialState, SelfConnections
from lightning_alrnn.nn.scan import Backend

if TYPE_CHECKING:
    from typing import Unpack as Unpack
else:
    # jsonargparse reads defaults and help texts from the call of ALRNN unless the annotation is an Unpack
    Unpack = Optional


class ALRNNOptions(TypedDict, total=False):
    """Types of the options of :class:`ALRNN`."""

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
