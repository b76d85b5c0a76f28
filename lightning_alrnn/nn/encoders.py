"""Encoders that map data to the inputs of the recurrence."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from lightning_alrnn.batch import valid_steps
from lightning_alrnn.errors import check_at_least

_SMOOTHING = 15
_SMOOTHING_SD = 2.0  # bins
_KERNEL = 7


class TextEncoder(nn.Module):
    r"""Encode each word: embedding – Linear(→128) – ReLU – Linear – ReLU – Linear(→M).

    In Brenner & Koppe (TMLR 2026), the output is added to the units (``ALRNNModule(input_matrix="identity")``).

    Args:
        vocab_size: Number of different tokens, for a learned embedding; ``None`` for inputs that are vectors.
        embedding_size: Width of the embedding or of the vectors.
        hidden_size: Width of both hidden layers.
        output_size: Number M of output channels.

    Raises:
        ValueError: If a size is below 1.

    Example:
        >>> TextEncoder(vocab_size=20_000)(torch.randint(0, 20_000, (4, 128))).shape
        torch.Size([4, 128, 100])
    """

    def __init__(
        self,
        vocab_size: int | None = 20_000,
        embedding_size: int = 100,
        hidden_size: int = 128,
        output_size: int = 100,
    ) -> None:
        super().__init__()
        if vocab_size is not None:
            check_at_least(1, vocab_size=vocab_size)
        check_at_least(1, embedding_size=embedding_size, hidden_size=hidden_size, output_size=output_size)
        self.vocab_size = vocab_size
        self.embedding_size = embedding_size
        self.output_size = output_size
        self.embedding = None if vocab_size is None else nn.Embedding(vocab_size, embedding_size)
        self.layers = nn.Sequential(
            nn.Linear(embedding_size, hidden_size),
            nn.ReLU(),
            nn.Linear(hidden_size, hidden_size),
            nn.ReLU(),
            nn.Linear(hidden_size, output_size),
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """Encode a batch.

        Args:
            inputs: Tokens, int64 of shape ``(batch, time)``, or vectors, shape ``(batch, time, embedding_size)``.

        Returns:
            Tensor of shape ``(batch, time, M)``.

        Raises:
            ValueError: If the shape or the dtype does not fit, or a token on the CPU is out of range.
        """
        takes = f"TextEncoder with vocab_size={self.vocab_size} takes"
        got = f"got {inputs.dtype} of shape {tuple(inputs.shape)}"
        if self.embedding is None:
            if inputs.ndim != 3 or inputs.shape[2] != self.embedding_size or not inputs.is_floating_point():
                raise ValueError(
                    f"{takes} vectors, float of shape (batch, time, {self.embedding_size}), {got}: set embedding_size "
                    "to the width of the vectors, or vocab_size to the number of tokens"
                )
        else:
            if inputs.ndim != 2 or inputs.is_floating_point():
                advice = "for vectors set vocab_size=None (null in YAML)"
                raise ValueError(f"{takes} tokens, int64 of shape (batch, time), {got}: {advice}")
            size = self.embedding.num_embeddings
            readable = inputs.device.type == "cpu" and not torch.compiler.is_compiling()
            if readable and bool(((inputs < 0) | (inputs >= size)).any()):
                raise ValueError(
                    f"{takes} tokens from 0 to {size - 1}, got {int(inputs.min())} to {int(inputs.max())}: set "
                    "vocab_size to the number of tokens of the data"
                )
            inputs = self.embedding(inputs)
        encoded: Tensor = self.layers(inputs)
        return encoded


class ImageEncoder(nn.Module):
    r"""Encode the pixels of an image by convolutions over time; each max-pooling halves the number of steps.

    Conv1d(1→16, k15) – ReLU – MaxPool(2) – Conv1d(16→32, k7) – ReLU – Conv1d(32→M, k3), and with ``pools=2`` a
    MaxPool(2) before the last convolution. Padded steps do not affect the valid ones. See Brenner & Koppe (TMLR 2026).

    Args:
        output_size: Number M of output channels.
        pools: Number of max-poolings, 1 (T=784 becomes 392) or 2 (196).

    Raises:
        ValueError: If ``output_size`` is less than 1 or ``pools`` is neither 1 nor 2.

    Example:
        >>> encoder = ImageEncoder(output_size=100)
        >>> encoder(torch.rand(4, 784, 1)).shape
        torch.Size([4, 392, 100])
        >>> encoder.output_lengths(torch.tensor([784, 9]))
        tensor([392,   5])
    """

    def __init__(self, output_size: int = 100, pools: int = 1) -> None:
        super().__init__()
        check_at_least(1, output_size=output_size)
        if pools not in (1, 2):
            raise ValueError(f"pools must be 1 or 2, got {pools}")
        self.output_size = output_size
        self.pools = pools
        self.first = nn.Conv1d(1, 16, 15, padding=7)
        self.second = nn.Conv1d(16, 32, 7, padding=3)
        self.last = nn.Conv1d(32, output_size, 3, padding=1)
        self.pool = nn.MaxPool1d(2, ceil_mode=True)

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Encode a batch.

        Args:
            inputs: Pixels, shape ``(batch, time, 1)``.
            lengths: Number of valid steps, int64 of shape ``(batch,)``; ``None`` if all steps are valid.

        Returns:
            Tensor of shape ``(batch, steps, M)``, with ``output_lengths`` valid steps.

        Raises:
            ValueError: If the inputs have another shape.
        """
        if inputs.ndim != 3 or inputs.shape[2] != 1:
            raise ValueError(
                f"ImageEncoder takes one pixel per step, inputs of shape (batch, time, 1), got {tuple(inputs.shape)}: "
                "read the images with order='pixel' or 'permuted'"
            )
        hidden = self.first(_masked(inputs.transpose(1, 2), lengths)).relu()
        hidden = self.pool(_masked(hidden, lengths))  # a zero is never larger than the output of a ReLU
        lengths = None if lengths is None else (lengths + 1) // 2
        hidden = _masked(self.second(hidden).relu(), lengths)
        encoded: Tensor = self.last(self.pool(hidden) if self.pools == 2 else hidden)
        return encoded.transpose(1, 2)

    def output_lengths(self, lengths: Tensor) -> Tensor:
        """Return the number of valid steps after the encoder, ⌈lengths/2⌉ or ⌈lengths/4⌉.

        Args:
            lengths: Number of valid steps before the encoder, int64 of shape ``(batch,)``.

        Returns:
            Tensor of the same shape.
        """
        steps = 2**self.pools
        return torch.div(lengths + steps - 1, steps, rounding_mode="floor")


class SpeechEncoder(nn.Module):
    r"""Encode speech features by two convolutions over time: Conv1d(K→64, k3) – ReLU – Conv1d(64→M, k3).

    With ``lengths``, padded steps do not affect the valid ones. See Brenner & Koppe (TMLR 2026).

    Args:
        output_size: Number M of output channels.
        input_size: Number K of features per step.

    Raises:
        ValueError: If a size is below 1.

    Example:
        >>> SpeechEncoder(output_size=100)(torch.randn(4, 101, 40)).shape
        torch.Size([4, 101, 100])
    """

    def __init__(self, output_size: int = 100, input_size: int = 40) -> None:
        super().__init__()
        check_at_least(1, output_size=output_size, input_size=input_size)
        self.output_size = output_size
        self.first = nn.Conv1d(input_size, 64, 3, padding=1)
        self.last = nn.Conv1d(64, output_size, 3, padding=1)

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Encode a batch.

        Args:
            inputs: Features, shape ``(batch, time, K)``.
            lengths: Number of valid steps, int64 of shape ``(batch,)``; ``None`` if all steps are valid.

        Returns:
            Tensor of shape ``(batch, time, M)``.

        Raises:
            ValueError: If the inputs have another shape.
        """
        if inputs.ndim != 3 or inputs.shape[2] != self.first.in_channels:
            raise ValueError(
                f"SpeechEncoder takes inputs of shape (batch, time, {self.first.in_channels}), got "
                f"{tuple(inputs.shape)}: set input_size of the encoder to the number of features of the data"
            )
        hidden = self.first(_masked(inputs.transpose(1, 2), lengths)).relu()
        encoded: Tensor = self.last(_masked(hidden, lengths))
        return encoded.transpose(1, 2)


class SpikeEncoder(nn.Module):
    """Encode spike counts as states by dilated convolutions over time.

    A kernel for each unit smooths its counts over 15 bins and starts as a Gaussian with a standard deviation of 2
    bins. Convolutions over 7 bins with dilations 1, 2, 4, … and ReLUs, a linear map and a layer normalisation follow.

    Args:
        num_units: Number N of observed units.
        output_size: Width M of the states, at least 2.
        channels: Number of channels of each convolution.

    Raises:
        ValueError: If a size is too small.

    Example:
        >>> encoder = SpikeEncoder(num_units=29, output_size=6)
        >>> encoder(torch.poisson(torch.ones(4, 40, 29))).shape
        torch.Size([4, 40, 6])
    """

    def __init__(self, num_units: int, output_size: int, channels: tuple[int, ...] = (32, 64, 128)) -> None:
        super().__init__()
        check_at_least(1, **{"num_units (N)": num_units})
        if output_size < 2:
            raise ValueError(
                f"output_size (M) must be at least 2, got {output_size}: layer normalisation makes one value constant"
            )
        if not channels or min(channels) < 1:
            raise ValueError(f"channels must list one or more layers with at least one channel each, got {channels}")
        self.num_units = num_units
        self.output_size = output_size
        self.smoothing = nn.Conv1d(num_units, num_units, _SMOOTHING, padding="same", groups=num_units, bias=False)
        with torch.no_grad():
            distance = torch.arange(_SMOOTHING) - _SMOOTHING // 2
            self.smoothing.weight.copy_(torch.softmax(-0.5 * (distance / _SMOOTHING_SD).square(), dim=0))
        self.convolutions = nn.ModuleList(
            nn.Conv1d(before, after, _KERNEL, padding="same", dilation=2**i)
            for i, (before, after) in enumerate(pairwise((num_units, *channels)))
        )
        self.projection = nn.Linear(channels[-1], output_size)
        self.norm = nn.LayerNorm(output_size)

    def forward(self, spikes: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Encode a batch.

        Args:
            spikes: Spike counts, shape ``(batch, time, N)``.
            lengths: Number of valid bins, int64 of shape ``(batch,)``; ``None`` if all bins are valid.

        Returns:
            States ẑ, shape ``(batch, time, M)``, zero after the end of a trial.

        Raises:
            ValueError: If the shape does not fit.
        """
        if spikes.ndim != 3 or spikes.shape[-1] != self.num_units:
            raise ValueError(f"spikes must have shape (batch, time, N={self.num_units}), got {tuple(spikes.shape)}")
        encoded = self.smoothing(_masked(spikes.transpose(1, 2), lengths))
        for convolution in self.convolutions:
            encoded = convolution(_masked(encoded, lengths)).relu()
        states = self.norm(self.projection(encoded.transpose(1, 2)))
        return _masked(states.transpose(1, 2), lengths).transpose(1, 2)


def _masked(channels: Tensor, lengths: Tensor | None) -> Tensor:
    """Set channels ``(batch, channels, time)`` to zero after the end of each sequence."""
    if lengths is None:
        return channels
    return channels.masked_fill(~valid_steps(lengths, channels.shape[2]).unsqueeze(1), 0.0)
