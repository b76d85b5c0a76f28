"""Sequence-to-sequence network: a decoder AL-RNN starts from the last state of an encoder AL-RNN."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from lightning_alrnn.batch import valid_steps
from lightning_alrnn.errors import check_at_least, check_choice
from lightning_alrnn.nn.alrnn import ALRNN, full_precision
from lightning_alrnn.nn.options import ALRNNOptions, Unpack
from lightning_alrnn.nn.readout import LinearReadout
from lightning_alrnn.nn.scan import ScanOutput

Seq2SeqCore = Literal["ALRNN", "RNN", "GRU", "LSTM"]


class Seq2SeqOutput(NamedTuple):
    """Output of :class:`Seq2Seq` for a batch.

    Attributes:
        outputs: Scores of the tokens at each decoder step, shape ``(batch, T_out, outputs)``.
        tokens: Tokens that the decoder chose, int64 of shape ``(batch, T_out)``; ``<end>`` after ``lengths``.
        states: Decoder states, shape ``(batch, T_out, M)``; zero after ``lengths``.
        lengths: Number of decoder steps up to ``<end>`` of the target, or of the decoder, int64 of shape ``(batch,)``.
        encoder_states: Encoder states, shape ``(batch, T_in, M)``; zero after ``encoder_lengths``.
        encoder_lengths: Number of encoder steps of each sequence, int64 of shape ``(batch,)``.
    """

    outputs: Tensor
    tokens: Tensor
    states: Tensor
    lengths: Tensor
    encoder_states: Tensor
    encoder_lengths: Tensor


def steps_to_end(tokens: Tensor, end: int) -> Tensor:
    """Return the number of tokens up to and including the first ``<end>``, or all if there is none."""
    before = (tokens == end).cumsum(dim=1) == 0
    return (before.sum(dim=1) + 1).clamp(max=tokens.shape[1])


class _TorchRNN(nn.Module):
    """A recurrent layer of PyTorch with the arguments and results of an ALRNN; the last state of an LSTM is (h, c)."""

    def __init__(self, core: Literal["RNN", "GRU", "LSTM"], input_size: int, hidden_size: int) -> None:
        super().__init__()
        kind = {"RNN": nn.RNN, "GRU": nn.GRU, "LSTM": nn.LSTM}[core]
        self.layer = kind(input_size, hidden_size, batch_first=True)

    def forward(self, inputs: Tensor, state: Tensor | None = None, lengths: Tensor | None = None) -> ScanOutput:
        steps: Any = inputs
        if lengths is not None:  # only so is the last c of each sequence known
            steps = pack_padded_sequence(inputs, lengths.cpu(), batch_first=True, enforce_sorted=False)
        initial: Any = None if state is None else state.unsqueeze(0)
        if state is not None and isinstance(self.layer, nn.LSTM):
            initial = tuple(part.contiguous() for part in initial.chunk(2, dim=2))
        states, last = self.layer(steps, initial)
        if lengths is not None:
            states, _ = pad_packed_sequence(states, batch_first=True, total_length=inputs.shape[1])
        return ScanOutput(states, (torch.cat(last, dim=2) if isinstance(last, tuple) else last).squeeze(0))


class Seq2Seq(nn.Module):
    r"""Encoder AL-RNN → decoder AL-RNN, from tokens to tokens.

    The decoder starts from the last state of the encoder. Its input is the embedding of the previous token, and it
    chooses the next one, y_t = argmax (D z_t + b), without a gradient:

    .. math:: z_t = A z_{t-1} + W φ^*(z_{t-1}) + C\, e(y_{t-1}) + h

    See Sutskever et al., NeurIPS 2014 (arXiv:1409.3215), and Brenner & Koppe, TMLR 2026 (arXiv:2506.07919).

    Args:
        input_size: Number of different input tokens.
        output_size: Number of different output tokens, at least 2; the last one is ``<end>``.
        hidden_size: Number M of units of each network.
        nonlinear_units: Number P of nonlinear units of the encoder.
        decoder_nonlinear_units: Number P of nonlinear units of the decoder.
        core: Kind of both networks: "ALRNN", or "RNN", "GRU" or "LSTM" for a baseline without P and ``options``.
        embedding_size: Width K of the embeddings.
        **options: Options of :class:`ALRNN` for both networks; ``initial_state`` is for the encoder only.

    Attributes:
        encoder: Encoder network.
        decoder: Decoder network.
        end: Index of the token ``<end>``, ``output_size`` − 1.

    Raises:
        ValueError: If a size is out of range or an option is unknown.

    Example:
        >>> network = Seq2Seq(14, 7, hidden_size=16, nonlinear_units=4, decoder_nonlinear_units=4)
        >>> network(torch.randint(0, 14, (5, 9)), max_steps=20).encoder_states.shape
        torch.Size([5, 9, 16])
    """

    def __init__(
        self,
        input_size: int,
        output_size: int,
        hidden_size: int = 128,
        nonlinear_units: int = 64,
        decoder_nonlinear_units: int = 32,
        *,
        core: Seq2SeqCore = "ALRNN",
        embedding_size: int = 64,
        **options: Unpack[ALRNNOptions],
    ) -> None:
        super().__init__()
        check_at_least(1, input_size=input_size, embedding_size=embedding_size)
        check_at_least(2, output_size=output_size)
        check_choice("core", core, Seq2SeqCore)
        if core == "ALRNN" and not 0 <= decoder_nonlinear_units <= hidden_size:
            raise ValueError(
                f"decoder_nonlinear_units (P) must lie between 0 and hidden_size (M={hidden_size}), "
                f"got {decoder_nonlinear_units}"
            )
        self.end = output_size - 1
        self._start = output_size  # a token that is fed but never scored
        self.embedding = nn.Embedding(input_size, embedding_size)

        def network(units: int, options: ALRNNOptions) -> Any:
            if core == "ALRNN":
                return ALRNN(embedding_size, hidden_size, units, **options)
            return _TorchRNN(core, embedding_size, hidden_size)

        self.encoder = network(nonlinear_units, options)
        self.decoder_embedding = nn.Embedding(output_size + 1, embedding_size)
        # it starts from the encoder's state
        self.decoder = network(decoder_nonlinear_units, {**options, "initial_state": "zeros"})
        self.readout = LinearReadout(hidden_size, output_size)

    def forward(
        self,
        inputs: Tensor,
        lengths: Tensor | None = None,
        targets: Tensor | None = None,
        *,
        teacher_forcing: float = 0.0,
        max_steps: int = 50,
    ) -> Seq2SeqOutput:
        """Encode the inputs, then decode greedily.

        Args:
            inputs: Tokens, int64 of shape ``(batch, T_in)``.
            lengths: Number of valid steps of each input, int64 of shape ``(batch,)``; ``None`` if all steps are valid.
            targets: Target tokens, int64 of shape ``(batch, T_out)``; ``None`` to run until ``<end>``.
            teacher_forcing: Probability, at each step, that the input is the target instead of the chosen token.
            max_steps: Largest number of steps without targets.

        Raises:
            ValueError: If a shape, a token on the CPU or ``teacher_forcing`` does not fit.
        """
        _check_tokens("inputs", inputs, self.embedding.num_embeddings)
        encoded = self.encode(inputs, lengths)
        if targets is None:
            if teacher_forcing:
                raise ValueError(f"teacher_forcing={teacher_forcing} needs targets: pass targets, or set it to 0")
            chosen = fed = self.choose(encoded.last, max_steps, until_end=True)
            run = steps_to_end(chosen, self.end)
        else:
            _check_tokens("targets", targets, self.readout.out_features, batch=len(inputs))
            if not 0 <= teacher_forcing <= 1:
                raise ValueError(f"teacher_forcing must be a probability between 0 and 1, got {teacher_forcing}")
            run = steps_to_end(targets, self.end)
            if teacher_forcing == 1:
                chosen, fed = None, targets
            elif teacher_forcing == 0:
                chosen = fed = self.choose(encoded.last, targets.shape[1])
            else:
                forced = torch.rand(targets.shape, device=targets.device) < teacher_forcing
                chosen = self.choose(encoded.last, targets.shape[1], torch.where(forced, targets, -1))
                fed = torch.where(forced, targets, chosen)
        states, outputs = self.decode(encoded.last, fed, run)
        if chosen is None:
            chosen = outputs.argmax(dim=-1)
        tokens = torch.where(valid_steps(run, chosen.shape[1]), chosen, self.end)
        if lengths is None:
            lengths = torch.full((len(inputs),), inputs.shape[1], dtype=torch.int64, device=inputs.device)
        return Seq2SeqOutput(outputs, tokens, states, run, encoded.states, lengths)

    def encode(self, inputs: Tensor, lengths: Tensor | None = None) -> ScanOutput:
        """Return the states of the encoder and the last state of each sequence.

        Args:
            inputs: Tokens, int64 of shape ``(batch, T_in)``.
            lengths: Number of valid steps, int64 of shape ``(batch,)``; ``None`` if all steps are valid.
        """
        output: ScanOutput = self.encoder(self.embedding(inputs), lengths=lengths)
        return output

    def decode(self, state: Tensor, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Run the decoder on known tokens, with gradients.

        Args:
            state: Initial state z_0, shape ``(batch, M)``, or ``(batch, 2M)`` for (h, c) of an LSTM.
            tokens: Tokens, int64 of shape ``(batch, T_out)``. Token t is the input of step t+1.
            lengths: Number of steps of each sequence, int64 of shape ``(batch,)``.

        Returns:
            States ``(batch, T_out, M)`` and scores ``(batch, T_out, outputs)``.
        """
        fed = functional.pad(tokens[:, :-1], (1, 0), value=self._start)
        states = self.decoder(self.decoder_embedding(fed), state, lengths).states
        return states, self.readout(states)

    @torch.no_grad()
    def choose(self, state: Tensor, steps: int, forced: Tensor | None = None, *, until_end: bool = False) -> Tensor:
        """Choose tokens greedily, without gradients.

        Args:
            state: Initial state z_0, shape ``(batch, M)``, or ``(batch, 2M)`` for (h, c) of an LSTM.
            steps: Number of steps.
            forced: Tokens that replace the chosen ones as inputs, int64 of shape ``(batch, steps)``; −1 for none.
            until_end: Whether to stop once every sequence has chosen ``<end>``.

        Returns:
            Chosen tokens, int64 of shape ``(batch, steps)``, with fewer steps if all sequences end earlier.

        Raises:
            ValueError: If ``steps`` is less than 1.
        """
        if steps < 1:
            raise ValueError(f"the number of steps to decode must be at least 1, got {steps}")
        with full_precision(state.device):
            step, drives = self._stepper()
            dtype, size = drives.dtype, self.readout.in_features
            readout, bias = self.readout.weight.to(dtype).t(), self.readout.bias.to(dtype)
            z = state.to(dtype)
            chosen = torch.empty(steps, len(z), dtype=torch.int64, device=z.device)
            fed = torch.full((len(z),), self._start, device=z.device)
            running = torch.ones(len(z), dtype=torch.bool, device=z.device)
            for t in range(steps):
                z = step(z, drives[fed])
                torch.argmax(torch.addmm(bias, z[:, :size], readout), dim=1, out=chosen[t])
                if until_end:
                    running &= chosen[t] != self.end
                    if not bool(running.any()):
                        return chosen[: t + 1].t()
                fed = chosen[t] if forced is None else torch.where(forced[:, t] < 0, chosen[t], forced[:, t])
        return chosen.t()

    def _stepper(self) -> tuple[Callable[[Tensor, Tensor], Tensor], Tensor]:
        """Return the step of the decoder, in at least float32 for an ALRNN, and what it takes for each token."""
        embedding = self.decoder_embedding.weight
        if not isinstance(self.decoder, ALRNN):
            return lambda state, token: self.decoder(token.unsqueeze(1), state).last, embedding
        dtype = torch.promote_types(embedding.dtype, torch.float32)
        recurrence = self.decoder.recurrence().to(dtype)
        return recurrence.stepper(), recurrence.drive(embedding.to(dtype))


def _check_tokens(name: str, tokens: Tensor, size: int, batch: int | None = None) -> None:
    shape = "(batch, time)" if batch is None else f"(batch={batch}, time)"
    if tokens.ndim != 2 or tokens.dtype != torch.int64 or 0 in tokens.shape or (batch or len(tokens)) != len(tokens):
        raise ValueError(
            f"{name} must be int64 tokens of shape {shape} with at least one step, "
            f"got {tokens.dtype} of shape {tuple(tokens.shape)}"
        )
    if tokens.device.type == "cpu":
        low, high = map(int, tokens.aminmax())
        if low < 0 or high >= size:
            raise ValueError(f"{name} must be tokens from 0 to {size - 1}, got {low if low < 0 else high}")
