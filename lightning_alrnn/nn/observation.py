"""Observation models: distributions of spike counts that depend on the states."""

from __future__ import annotations

import math
from abc import abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional

from lightning_alrnn.errors import check_at_least
from lightning_alrnn.nn.readout import LinearReadout

_LOWEST_RATE = 1e-6
_GREATEST_SPREAD = 0.95


class Observation(nn.Module):
    r"""Base class of the observation models: spike counts of N units that depend on the state z.

    .. math:: μ = \mathrm{softplus}(D z + b) + 10^{-6}

    A subclass defines the distribution around the mean count μ per bin.

    Args:
        hidden_size: Width M of the states.
        num_units: Number N of observed units.

    Attributes:
        readout: Readout with D and b, a :class:`LinearReadout`.

    Raises:
        ValueError: If a size is less than 1.
    """

    def __init__(self, hidden_size: int, num_units: int) -> None:
        super().__init__()
        check_at_least(1, **{"hidden_size (M)": hidden_size, "num_units (N)": num_units})
        self.readout = LinearReadout(hidden_size, num_units)

    def mean(self, z: Tensor) -> Tensor:
        """Return the mean count of each unit in a bin.

        Args:
            z: States, shape ``(…, M)``.

        Returns:
            Spikes per bin, shape ``(…, N)``.
        """
        return functional.softplus(self.readout(z)) + _LOWEST_RATE

    def log_prob(self, counts: Tensor, z: Tensor) -> Tensor:
        """Return the log-probability of counts.

        Args:
            counts: Spike counts, shape ``(…, N)``.
            z: States, shape ``(…, M)``.

        Returns:
            Log-probability of the count of each unit, shape ``(…, N)``.
        """
        return self.log_prob_of(counts, self.mean(z))

    def variance(self, z: Tensor) -> Tensor:
        """Return the variance of the count of each unit in a bin.

        Args:
            z: States, shape ``(…, M)``.

        Returns:
            Spikes², shape ``(…, N)``.
        """
        return self.variance_of(self.mean(z))

    @torch.no_grad()
    def sample(self, z: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Draw counts.

        Args:
            z: States, shape ``(…, M)``.
            generator: Generator of random numbers on the device of ``z``; ``None`` for the default one.

        Returns:
            Counts as floats, shape ``(…, N)``.
        """
        return self.sample_of(self.mean(z), generator)

    @abstractmethod
    def log_prob_of(self, counts: Tensor, mean: Tensor) -> Tensor:
        """Return the log-probability of counts from their means.

        Args:
            counts: Spike counts, shape ``(…, N)``.
            mean: Mean counts, shape ``(…, N)``.

        Returns:
            Log-probability of the count of each unit, shape ``(…, N)``.
        """

    @abstractmethod
    def variance_of(self, mean: Tensor) -> Tensor:
        """Return the variance of counts from their means.

        Args:
            mean: Mean counts, shape ``(…, N)``.

        Returns:
            Tensor of the same shape.
        """

    @abstractmethod
    def sample_of(self, mean: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Draw counts from their means.

        Args:
            mean: Mean counts, shape ``(…, N)``.
            generator: Generator of random numbers on the device of ``mean``; ``None`` for the default one.

        Returns:
            Counts as floats, of the same shape.
        """


class PoissonObservation(Observation):
    r"""Poisson counts: p(x) = μ^x e^{−μ} / x!, variance μ.

    Example:
        >>> observation = PoissonObservation(hidden_size=6, num_units=29)
        >>> observation.sample(torch.randn(4, 10, 6)).shape
        torch.Size([4, 10, 29])
    """

    def log_prob_of(self, counts: Tensor, mean: Tensor) -> Tensor:
        return counts * mean.log() - mean - torch.lgamma(counts + 1)

    def variance_of(self, mean: Tensor) -> Tensor:
        return mean

    def sample_of(self, mean: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return torch.poisson(mean, generator)


class NegativeBinomialObservation(Observation):
    r"""Negative binomial counts: Poisson counts whose rate is Gamma distributed; variance μ + μ²/r.

    .. math:: p(x) = \frac{Γ(x+r)}{Γ(r)\,x!} \Big(\frac{r}{r+μ}\Big)^r \Big(\frac{μ}{r+μ}\Big)^x

    r > 0 is learned for each unit and starts at 10. See Goris et al., Nature Neuroscience 17:858 (2014).

    Args:
        hidden_size: Width M of the states.
        num_units: Number N of observed units.

    Attributes:
        log_r: Logarithm ln r, shape ``(N,)``.

    Example:
        >>> NegativeBinomialObservation(hidden_size=6, num_units=29).mean(torch.randn(4, 6)).shape
        torch.Size([4, 29])
    """

    def __init__(self, hidden_size: int, num_units: int) -> None:
        super().__init__(hidden_size, num_units)
        self.log_r = nn.Parameter(torch.full((num_units,), math.log(10.0)))

    def log_prob_of(self, counts: Tensor, mean: Tensor) -> Tensor:
        r = self.log_r.exp()
        binomial = torch.lgamma(counts + r) - torch.lgamma(r) - torch.lgamma(counts + 1)
        # r ln(r/(r+μ)) and x ln(μ/(r+μ)), without differences of large numbers if r ≫ μ
        return binomial - r * torch.log1p(mean / r) + counts * (mean.log() - torch.log(r + mean))

    def variance_of(self, mean: Tensor) -> Tensor:
        return mean + mean.square() * torch.exp(-self.log_r)

    def sample_of(self, mean: Tensor, generator: torch.Generator | None = None) -> Tensor:
        r = self.log_r.exp()
        # torch.distributions.Gamma draws by the same function, but takes no generator
        gamma = torch._standard_gamma(r.expand_as(mean).contiguous(), generator)
        return torch.poisson(gamma * (mean / r), generator)


class GeneralizedPoissonObservation(Observation):
    r"""Generalised Poisson counts (Consul & Jain); variance μ/(1−λ)², a Fano factor that does not depend on the rate.

    .. math:: p(x) = \frac{θ (θ + λx)^{x-1} e^{-θ-λx}}{x!}, \qquad θ = μ (1 - λ)

    λ is learned for each unit, starts at 0.05 and is 0.95 times a sigmoid. The probabilities sum to 1 in its range,
    0 < λ < 0.95. See Consul & Jain, Technometrics 15:791 (1973).

    Args:
        hidden_size: Width M of the states.
        num_units: Number N of observed units.

    Attributes:
        logit: Argument of the sigmoid, shape ``(N,)``.

    Example:
        >>> GeneralizedPoissonObservation(hidden_size=6, num_units=29).spread().shape
        torch.Size([29])
    """

    def __init__(self, hidden_size: int, num_units: int) -> None:
        super().__init__(hidden_size, num_units)
        start = 0.05 / _GREATEST_SPREAD
        self.logit = nn.Parameter(torch.full((num_units,), math.log(start / (1 - start))))

    def spread(self) -> Tensor:
        """Return λ of each unit, shape ``(N,)``."""
        return _GREATEST_SPREAD * torch.sigmoid(self.logit)

    def log_prob_of(self, counts: Tensor, mean: Tensor) -> Tensor:
        spread = self.spread()
        theta = mean * (1 - spread)
        shifted = theta + spread * counts
        return theta.log() + (counts - 1) * shifted.log() - shifted - torch.lgamma(counts + 1)

    def variance_of(self, mean: Tensor) -> Tensor:
        return mean / (1 - self.spread()).square()

    def sample_of(self, mean: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Draw counts as the size of a family: Poisson(θ) founders, each member with Poisson(λ) children."""
        spread = self.spread().expand_as(mean)
        generation = torch.poisson(mean * (1 - spread), generator)
        counts = generation.clone()
        while bool(generation.any()):  # λ < 1: every family dies out
            generation = torch.poisson(generation * spread, generator)
            counts += generation
        return counts
