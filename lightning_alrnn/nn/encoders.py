"""Encoders: what stands between a kind of data and the recurrence."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from lightning_alrnn.batch import valid_steps

_SMOOTHING = 15
_SMOOTHING_SD = 2.0  # bins
_KERNEL = 7


class TextEncoder(nn.Module):
    r"""Words one by one to the drive of the recurrence: embedding – Linear(→128) – ReLU – Linear – ReLU – Linear(→M).

    Each step is encoded on its own. With ``output_size`` equal to the number of units, what comes out can be added to
    the units directly (``ALRNNModule(input_matrix="identity")``), as in the paper.

    Args:
        vocab_size: Number of different tokens, for an embedding that is learned; ``None`` for inputs that are vectors
            already, such as pretrained ones.
        embedding_size: Width of the embedding, or of the vectors.
        hidden_size: Width of both hidden layers.
        output_size: Number M of channels that come out.

    Attributes:
        output_size: M.

    Raises:
        ValueError: If a size is below 1.

    Example:
        >>> TextEncoder(vocab_size=20_000)(torch.randint(0, 20_000, (4, 128))).shape
        torch.Size([4, 128, 100])
        >>> TextEncoder(vocab_size=None, embedding_size=50)(torch.randn(4, 128, 50)).shape
        torch.Size([4, 128, 100])

    Reference:
        Brenner & Koppe, TMLR 2026 (arXiv:2506.07919), IMDb.
    """

    def __init__(
        self,
        vocab_size: int | None = 20_000,
        embedding_size: int = 100,
        hidden_size: int = 128,
        output_size: int = 100,
    ) -> None:
        super().__init__()
        sizes = {"embedding_size": embedding_size, "hidden_size": hidden_size, "output_size": output_size}
        for name, size in (sizes if vocab_size is None else {"vocab_size": vocab_size, **sizes}).items():
            if size < 1:
                raise ValueError(f"{name} must be at least 1, got {size}")
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
            inputs: Tokens, int64 of shape ``(batch, time)``; where ``vocab_size`` is ``None``, vectors of shape
                ``(batch, time, embedding_size)``.

        Returns:
            Tensor of shape ``(batch, time, M)``.

        Raises:
            ValueError: If the inputs are of the other kind, or a token is not within 0 … ``vocab_size`` − 1 (tokens on
                an accelerator are not looked at, as that would halt it).
        """
        if self.embedding is None:
            if inputs.ndim != 3 or inputs.shape[2] != self.embedding_size or not inputs.is_floating_point():
                raise ValueError(
                    f"TextEncoder with vocab_size=None takes vectors, float of shape (batch, time, "
                    f"{self.embedding_size}), got {inputs.dtype} of shape {tuple(inputs.shape)}: set embedding_size to "
                    "their width, or vocab_size to the number of tokens"
                )
            vectors = inputs
        else:
            if inputs.ndim != 2 or inputs.is_floating_point():
                raise ValueError(
                    f"TextEncoder with vocab_size={self.vocab_size} takes tokens, int64 of shape (batch, time), got "
                    f"{inputs.dtype} of shape {tuple(inputs.shape)}: for vectors set vocab_size=None (null in YAML)"
                )
            looked_at = inputs.device.type == "cpu" and not torch.compiler.is_compiling()
            if looked_at and bool(((inputs < 0) | (inputs >= self.embedding.num_embeddings)).any()):
                raise ValueError(
                    f"TextEncoder with vocab_size={self.vocab_size} takes tokens from 0 to "
                    f"{self.embedding.num_embeddings - 1}, got {int(inputs.min())} to {int(inputs.max())}: set "
                    "vocab_size to that of the data"
                )
            vectors = self.embedding(inputs)
        encoded: Tensor = self.layers(vectors)
        return encoded


class ImageEncoder(nn.Module):
    r"""Convolutions over the pixels of an image read as a sequence; each pool of 2 halves the number of steps.

    Conv1d(1→16, k15) – ReLU – MaxPool(2) – Conv1d(16→32, k7) – ReLU – Conv1d(32→M, k3), all padded to keep the number
    of steps; with ``pools=2`` another MaxPool(2) before the last convolution. An odd last step is pooled alone, so that
    ⌈T/2⌉ steps come out of T.

    Given ``lengths``, the valid steps of a padded sequence are those of the sequence alone, whatever the padded steps
    hold: these are set to zero before each convolution and pool, as the convolutions' own padding is.

    Args:
        output_size: Number M of channels that come out.
        pools: 1 (T=784 becomes 392) or 2 (196).

    Attributes:
        output_size: M.

    Raises:
        ValueError: If ``output_size`` is below 1 or ``pools`` neither 1 nor 2.

    Example:
        >>> encoder = ImageEncoder(output_size=100)
        >>> encoder(torch.rand(4, 784, 1)).shape
        torch.Size([4, 392, 100])
        >>> encoder.output_lengths(torch.tensor([784, 9]))
        tensor([392,   5])

    Reference:
        Brenner & Koppe, TMLR 2026 (arXiv:2506.07919), sequential MNIST.
    """

    def __init__(self, output_size: int = 100, pools: int = 1) -> None:
        super().__init__()
        if output_size < 1:
            raise ValueError(f"output_size must be at least 1, got {output_size}")
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
            lengths: Number of valid steps of each sequence, int64 of shape ``(batch,)``; ``None`` if all steps are
                valid.

        Returns:
            Tensor of shape ``(batch, steps, M)``, with ``output_lengths`` valid steps.

        Raises:
            ValueError: If the inputs have another shape.
        """
        if inputs.ndim != 3 or inputs.shape[2] != 1:
            raise ValueError(
                f"ImageEncoder takes one pixel a step, inputs of shape (batch, time, 1), got {tuple(inputs.shape)}: "
                "read the images with order='pixel' or 'permuted'"
            )
        hidden = self.first(_masked(inputs.transpose(1, 2), lengths)).relu()
        hidden = self.pool(_masked(hidden, lengths))  # zeros never win over what a ReLU gives
        lengths = None if lengths is None else _halved(lengths)
        hidden = _masked(self.second(hidden).relu(), lengths)
        if self.pools == 2:
            hidden = self.pool(hidden)
        encoded: Tensor = self.last(hidden)
        return encoded.transpose(1, 2)

    def output_lengths(self, lengths: Tensor) -> Tensor:
        """Valid steps after the encoder, ⌈lengths/2⌉ or ⌈lengths/4⌉, at least 1.

        Args:
            lengths: Valid steps of each sequence before it, int64 of shape ``(batch,)``.

        Returns:
            Tensor of the same shape.
        """
        for _ in range(self.pools):
            lengths = _halved(lengths)
        return lengths


class SpeechEncoder(nn.Module):
    r"""Two convolutions over the features of speech: Conv1d(K→64, k3) – ReLU – Conv1d(64→M, k3).

    Both are padded to keep the number of steps. Given ``lengths``, the valid steps of a padded sequence are those of
    the sequence alone, whatever the padded steps hold.

    Args:
        output_size: Number M of channels that come out.
        input_size: Number K of features a step.

    Attributes:
        output_size: M.

    Raises:
        ValueError: If a size is below 1.

    Example:
        >>> import torch
        >>> SpeechEncoder(output_size=100)(torch.randn(4, 101, 40)).shape
        torch.Size([4, 101, 100])

    Reference:
        Brenner & Koppe, TMLR 2026 (arXiv:2506.07919), Speech Commands.
    """

    def __init__(self, output_size: int = 100, input_size: int = 40) -> None:
        super().__init__()
        for name, size in (("output_size", output_size), ("input_size", input_size)):
            if size < 1:
                raise ValueError(f"{name} must be at least 1, got {size}")
        self.output_size = output_size
        self.first = nn.Conv1d(input_size, 64, 3, padding=1)
        self.last = nn.Conv1d(64, output_size, 3, padding=1)

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Encode a batch.

        Args:
            inputs: Features, shape ``(batch, time, K)``.
            lengths: Number of valid steps of each sequence, int64 of shape ``(batch,)``; ``None`` if all steps are
                valid.

        Returns:
            Tensor of shape ``(batch, time, M)``.

        Raises:
            ValueError: If the inputs have another shape.
        """
        if inputs.ndim != 3 or inputs.shape[2] != self.first.in_channels:
            raise ValueError(
                f"SpeechEncoder takes inputs of shape (batch, time, {self.first.in_channels}), got "
                f"{tuple(inputs.shape)}: set its input_size to the number of features of the data"
            )
        hidden = self.first(_masked(inputs.transpose(1, 2), lengths)).relu()
        encoded: Tensor = self.last(_masked(hidden, lengths))
        return encoded.transpose(1, 2)


class SpikeEncoder(nn.Module):
    """Dilated convolutions over time, from spike counts to states: N → smoothing → channels → M, layer-normalised.

    Each unit's counts are smoothed over 15 bins by a kernel of its own, a Gaussian of 2 bins to begin with. Layers of
    convolutions over 7 bins with a ReLU follow, of which layer i has the dilation 2^i; then a linear map to M values a
    bin and a layer normalisation over these. Every step of the output sees the bins around it, later ones too (28 on
    either side with three layers). What lies past a trial's length is taken as zero in every layer, so that the
    padding of a batch does not matter.

    Args:
        num_units: Number N of observed units.
        output_size: Width M of the states, at least 2 (layer normalisation takes two values apart).
        channels: Channels of each convolution.

    Raises:
        ValueError: If a size is too small.

    Example:
        >>> encoder = SpikeEncoder(num_units=29, output_size=6)
        >>> encoder(torch.poisson(torch.ones(4, 40, 29))).shape
        torch.Size([4, 40, 6])
    """

    def __init__(self, num_units: int, output_size: int, channels: tuple[int, ...] = (32, 64, 128)) -> None:
        super().__init__()
        if num_units < 1:
            raise ValueError(f"num_units (N) must be at least 1, got {num_units}")
        if output_size < 2:
            raise ValueError(
                f"output_size (M) must be at least 2, got {output_size}: normalised over one value it would be constant"
            )
        if not channels or min(channels) < 1:
            raise ValueError(f"channels must have at least one layer of at least one channel, got {channels}")
        self.num_units = num_units
        self.output_size = output_size
        self.smoothing = nn.Conv1d(
            num_units, num_units, _SMOOTHING, padding=_SMOOTHING // 2, groups=num_units, bias=False
        )
        with torch.no_grad():
            distance = torch.arange(_SMOOTHING) - _SMOOTHING // 2
            self.smoothing.weight.copy_(torch.softmax(-0.5 * (distance / _SMOOTHING_SD).square(), dim=0))
        widths = (num_units, *channels)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(before, after, _KERNEL, padding=(_KERNEL // 2) * 2**i, dilation=2**i)
            for i, (before, after) in enumerate(pairwise(widths))
        )
        self.projection = nn.Linear(channels[-1], output_size)
        self.norm = nn.LayerNorm(output_size)

    def forward(self, spikes: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Encode.

        Args:
            spikes: Counts, shape ``(batch, time, N)``.
            lengths: Number of valid bins of each trial, int64 of shape ``(batch,)``; ``None`` if all steps are valid.

        Returns:
            Tensor of shape ``(batch, time, M)``, zero past a trial's length.

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


def _halved(lengths: Tensor) -> Tensor:
    return (lengths + 1) // 2


def _masked(channels: Tensor, lengths: Tensor | None) -> Tensor:
    """Channels ``(batch, channels, time)`` with zeros past each sequence's length."""
    if lengths is None:
        return channels
    return channels.masked_fill(~valid_steps(lengths, channels.shape[2]).unsqueeze(1), 0.0)
