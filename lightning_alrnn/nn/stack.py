"""Several networks as one set of tensors, for ``torch.func``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from lightning_alrnn.nn.alrnn import ALRNN


def stack_networks(networks: Sequence[nn.Module]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Stack the parameters and buffers of networks of one architecture, whose AL-RNNs may differ in P.

    Unlike :func:`torch.func.stack_module_state`, it widens A to M entries; those that a network lacks have no effect.

    Args:
        networks: E modules with the same class, sizes and options. The first one decides which parameters are trained.

    Returns:
        Parameters, which are new leaves, and buffers by name, each with a leading dimension E.

    Raises:
        ValueError: If there is no network, or the networks differ in their names, shapes or options.

    Example:
        >>> networks = [ALRNN(input_size=2, hidden_size=4, nonlinear_units=P) for P in (0, 1, 4)]
        >>> parameters, buffers = stack_networks(networks)
        >>> def last(parameters, buffers, inputs):
        ...     return torch.func.functional_call(networks[0], (parameters, buffers), (inputs,)).last
        >>> torch.vmap(last)(parameters, buffers, torch.randn(3, 5, 10, 2)).shape
        torch.Size([3, 5, 4])
    """
    if not networks:
        raise ValueError("networks must have at least one module, got none")
    layers = _layers(networks[0])
    for network in networks:
        for (path, layer), other in zip(layers.items(), _layers(network).values(), strict=False):
            for name in ("self_connections", "initial_state", "initial_radius", "backend"):
                one, two = getattr(layer, name), getattr(other, name)
                if one != two:
                    place = f"{name} of {path or 'ALRNN'}"
                    raise ValueError(f"networks must have the same options, but {place} is {one!r} and {two!r}")
    wide = {f"{path}.A" if path else "A": layer.hidden_size for path, layer in layers.items()}

    def stack(states: Iterable[dict[str, Tensor]]) -> dict[str, Tensor]:
        first, *others = states
        if any(other.keys() != first.keys() for other in others):
            raise ValueError("networks must have the same parameters and buffers, but their names differ")
        stacked = {}
        for name in first:
            values = [state[name].detach() for state in (first, *others)]
            if name in wide:
                values = [functional.pad(value, (wide[name] - len(value), 0)) for value in values]
            shapes = {tuple(value.shape) for value in values}
            if len(shapes) > 1:
                raise ValueError(f"networks must have the same sizes, but {name} has the shapes {sorted(shapes)}")
            stacked[name] = torch.stack(values)
        return stacked

    parameters = stack(dict(network.named_parameters()) for network in networks)
    trained = {name for name, value in networks[0].named_parameters() if value.requires_grad}
    for name, value in parameters.items():
        value.requires_grad_(name in trained)
    return parameters, stack(dict(network.named_buffers()) for network in networks)


def _layers(network: nn.Module) -> dict[str, ALRNN]:
    """Return the AL-RNNs of a network by path."""
    return {path: module for path, module in network.named_modules() if isinstance(module, ALRNN)}
