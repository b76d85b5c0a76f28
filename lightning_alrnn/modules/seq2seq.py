"""The LightningModule for sequence-to-sequence tasks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from pytorch_lightning import Callback
from pytorch_lightning.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torch.nn import functional
from torchmetrics import Metric

from lightning_alrnn.batch import SequenceBatch, Split, valid_steps
from lightning_alrnn.callbacks.length_accuracy import LengthAccuracy
from lightning_alrnn.errors import check_at_least
from lightning_alrnn.metrics.mean import WeightedMean
from lightning_alrnn.modules.base import SequenceModule, absent_callbacks, check_is_batch
from lightning_alrnn.nn.alrnn import ALRNN
from lightning_alrnn.nn.options import ALRNNOptions, Unpack
from lightning_alrnn.nn.seq2seq import Seq2Seq, Seq2SeqCore, Seq2SeqOutput, steps_to_end


class ALRNNSeq2Seq(SequenceModule):
    r"""Encoder AL-RNN and decoder AL-RNN that translate tokens into tokens (:class:`Seq2Seq`).

    The loss is the cross-entropy of the target tokens up to and including ``<end>``, plus the manifold-attractor
    regularisation (see :class:`ALRNNModule`) of both networks.

    The module logs ``train/loss``, ``train/task_loss`` and ``train/regularization`` as exact means over an epoch and
    all processes, and the same keys with ``val/`` and ``test/``. Validation and test also log

    - ``token_accuracy``: share of the target tokens, including ``<end>``, that are correct at their step. No token is
      correct after the decoder has chosen ``<end>``;
    - ``sequence_accuracy``: share of sequences in which every token is correct.

    The module adds the callback :class:`LengthAccuracy`, unless the Trainer has one. Batches have int64 tokens
    ``(batch, T_in)``, targets ``(batch, T_out)`` that end with ``<end>``, the last class, and an optional mask.

    Args:
        input_size: Number of different input tokens.
        output_size: Number of different output tokens, including ``<end>``.
        hidden_size: Number M of units of each network.
        nonlinear_units: Number P of nonlinear units of the encoder.
        decoder_nonlinear_units: Number P of nonlinear units of the decoder.
        core: Kind of both networks: "ALRNN", or "RNN", "GRU" or "LSTM" for a baseline without P, τ and ``options``.
        embedding_size: Width of the embeddings of input and output tokens.
        teacher_forcing: Probability, at each step in training, that the input of the decoder is the token of the target
            instead of the token that it chose.
        teacher_forcing_epochs: Number of epochs in which this probability falls linearly to 0; ``None`` keeps it.
        truncate_to_target: Whether to cut the output to the length of the target. ``<end>`` then does not count and
            does not stop the decoder.
        max_steps: Largest number of tokens in a prediction.
        mar_strength: Strength τ of the regularisation; 0 for none.
        mar_units: Number M_reg of the first units of each network that are regularised; ``None`` for M/2.
        optimizer: Function that makes the optimizer from the parameters.
        lr_scheduler: Function that makes the scheduler. It steps once per epoch, on plateaus of ``val/task_loss``.
        **options: Options of :class:`ALRNN` for both networks; ``initial_state`` is for the encoder only.

    Raises:
        TypeError: If an option is unknown.
        ValueError: If a size or an option is out of range.

    Example:
        >>> model = ALRNNSeq2Seq(14, 7, hidden_size=16, nonlinear_units=4, decoder_nonlinear_units=4)
        >>> model(torch.randint(0, 14, (5, 9))).states.shape[::2]
        torch.Size([5, 16])
    """

    alrnns: ClassVar[tuple[str, ...]] = ("encoder", "decoder")
    """Names of the AL-RNNs. The ``alrnn`` command adds callbacks for each of them."""

    def __init__(
        self,
        input_size: int,
        output_size: int,
        hidden_size: int = 128,
        nonlinear_units: int = 64,
        decoder_nonlinear_units: int = 32,
        core: Seq2SeqCore = "ALRNN",
        embedding_size: int = 64,
        teacher_forcing: float = 0.0,
        teacher_forcing_epochs: int | None = None,
        truncate_to_target: bool = False,
        max_steps: int = 50,
        mar_strength: float = 0.1,
        mar_units: int | None = None,
        optimizer: OptimizerCallable = torch.optim.Adam,
        lr_scheduler: LRSchedulerCallable | None = None,
        **options: Unpack[ALRNNOptions],
    ) -> None:
        super().__init__(optimizer, lr_scheduler)
        options = self._complete(options)
        if not 0 <= teacher_forcing <= 1:
            raise ValueError(f"teacher_forcing must be a probability between 0 and 1, got {teacher_forcing}")
        if teacher_forcing_epochs is not None and teacher_forcing_epochs < 1:
            advice = "or None to keep teacher_forcing constant"
            raise ValueError(f"teacher_forcing_epochs must be at least 1, {advice}, got {teacher_forcing_epochs}")
        check_at_least(1, max_steps=max_steps)
        self._set_regularization(mar_strength, mar_units, hidden_size)
        self.teacher_forcing = teacher_forcing
        self.teacher_forcing_epochs = teacher_forcing_epochs
        self.truncate_to_target = truncate_to_target
        self.max_steps = max_steps
        sizes = (input_size, output_size, hidden_size, nonlinear_units, decoder_nonlinear_units)
        self.network = Seq2Seq(*sizes, core=core, embedding_size=embedding_size, **options)
        self.save_hyperparameters(ignore=["optimizer", "lr_scheduler"])
        self._keep_own_hyperparameters()
        self.train_metrics = nn.ModuleDict(self.configure_losses())
        self.val_metrics = nn.ModuleDict(self.configure_losses() | self.configure_metrics())
        self.test_metrics = nn.ModuleDict(self.configure_losses() | self.configure_metrics())

    def configure_metrics(self) -> dict[str, Metric]:
        """Return the metrics of validation and test by name, except the losses."""
        return {name: WeightedMean() for name in ("token_accuracy", "sequence_accuracy")}

    def configure_callbacks(self) -> Sequence[Callback]:
        """Return the callbacks of :class:`SequenceModule` and :class:`LengthAccuracy`."""
        return [*super().configure_callbacks(), *absent_callbacks(self.trainer, LengthAccuracy)]

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> Seq2SeqOutput:
        """Translate a batch.

        Args:
            inputs: Tokens, int64 of shape ``(batch, T_in)``.
            lengths: Number of valid steps, int64 of shape ``(batch,)``; ``None`` if all steps are valid.
        """
        output: Seq2SeqOutput = self.network(inputs, lengths, max_steps=self.max_steps)
        return output

    def teacher_forcing_at(self, epoch: int) -> float:
        """Return the probability of teacher forcing in an epoch.

        Args:
            epoch: Number of the epoch, from 0.

        Returns:
            Probability of teacher forcing.
        """
        if self.teacher_forcing_epochs is None:
            return self.teacher_forcing
        return self.teacher_forcing * max(0.0, 1.0 - epoch / self.teacher_forcing_epochs)

    def _alrnns(self) -> list[ALRNN]:
        return [rnn for rnn in (self.network.encoder, self.network.decoder) if isinstance(rnn, ALRNN)]

    def task_loss(self, outputs: Tensor, batch: SequenceBatch) -> tuple[Tensor, Tensor]:
        """Compute the cross-entropy of each step.

        Args:
            outputs: Scores, shape ``(batch, T_out, outputs)``.
            batch: Batch with the targets.

        Returns:
            Loss of each step and its weight in the mean, both of shape ``(batch, T_out)``.
        """
        targets, end = batch.targets, self.network.end
        loss = functional.cross_entropy(outputs.flatten(0, 1), targets.flatten(), reduction="none").view(targets.shape)
        counted = valid_steps(steps_to_end(targets, end), targets.shape[1])
        if self.truncate_to_target:
            counted = counted & (targets != end)
        weight = counted.to(loss.dtype)
        return loss, weight if batch.mask is None else weight * batch.mask

    def _step(self, stage: Split, batch: SequenceBatch) -> dict[str, Any]:
        check_is_batch(batch)
        if batch.mask is not None and batch.mask.shape != batch.targets.shape:
            shape, got = tuple(batch.targets.shape), tuple(batch.mask.shape)
            raise ValueError(f"the mask must have the shape of the targets, {shape}, got {got}")
        forcing = self.teacher_forcing_at(self.current_epoch) if stage == "train" else 0.0
        output = self.network(batch.inputs, batch.lengths, batch.targets, teacher_forcing=forcing)
        elements, weight = self.task_loss(output.outputs, batch)
        losses = self._losses(elements, weight)
        steps = output.lengths
        if not self.truncate_to_target:  # the decoder stops at its own <end>
            steps = torch.minimum(steps, steps_to_end(output.tokens, self.network.end))
        correct, target_lengths = self._log(stage, batch, output.tokens, steps, losses, weight)
        return {
            "loss": losses["loss"],
            "states": {"encoder": output.encoder_states.detach(), "decoder": output.states.detach()},
            "lengths": {"encoder": output.encoder_lengths, "decoder": steps},
            "correct": correct,
            "target_lengths": target_lengths,
        }

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # Lightning inspects the hook, which a graph cannot
    @torch.no_grad()
    def _log(
        self,
        stage: Split,
        batch: SequenceBatch,
        tokens: Tensor,
        steps: Tensor,
        losses: dict[str, Tensor],
        weight: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Log the metrics; return whether each sequence is correct and its length, −1 if it does not count."""
        self._update_losses(stage, losses, weight)
        counted = weight > 0
        right = (tokens == batch.targets) & valid_steps(steps, tokens.shape[1])
        correct, scored = (right | ~counted).all(dim=1), counted.any(dim=1)
        if stage != "train":
            metrics = self._metrics(stage)
            for name, hits, counts in (("token", right, counted), ("sequence", correct, scored)):
                total = counts.sum()
                metrics[f"{name}_accuracy"].update((hits & counts).sum() / total.clamp(min=1), total)
        self._log_metrics(stage, len(batch.inputs))
        length = (batch.targets != self.network.end).cumprod(dim=1).sum(dim=1)
        return correct, torch.where(scored, length, -1)
