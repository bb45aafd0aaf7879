"""What every model is and offers: `Backbone`, and for those with codebooks `CodebookModel`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from neurofm.models.layout import Codes, Encoded, mean_token
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import ConfigError
from neurofm.schema.facts import Facts

__all__ = ["Backbone", "CodebookModel", "Codes", "Encoded", "offers"]


class Backbone(nn.Module):
    """A model: batch → tokens, tokens → one vector, and what a new subject owns.

    A new one is `__init__(self, facts, *, …)`, which sets `dim`, and `encode`. All else below is what the rest of the
    program may ask of a model, with the answer of one that has nothing to say.

    Attributes
    ----------
    dim : int
        Width of the tokens.
    patch_samples : int
        Samples of the patch that a token stands for; 0 where tokens are no patches.
    n_features, n_bins : int
        Numbers that `patch_features` gives of a patch, and `spectrogram` of a frame; 0 where there is no such thing.
    causal : bool
        Whether a token depends on nothing after its own segment.
    fuses_channels : bool
        Whether a token stands for all channels together.
    n_branches : int
        A token is that many vectors side by side; code k of K is predicted from vector ⌊k · n_branches / K⌋.
    hides_tokens : bool
        Whether `encode` takes ``mask_tokens``, bool (B, T, C), or (B, T, 1) for all channels of a segment: tokens that it
        gives without looking at their patches.
    sees_before : bool
        Whether the token of a bin knows counts of earlier bins alone, so that it may say what its own holds.
    takes_prompt : bool
        Whether `encode` takes ``prompt``, long (B,): by its number in `ndt.PROMPTS`, how counts are hidden.
    idle : tuple of str
        Paths of parameters, or of parts, whose gradient is always zero; training freezes them.
    only_for_terms : tuple of str
        Paths of what serves `encode_with_terms` (or `CodebookModel.losses`) alone; frozen where an objective takes no terms.
    solved : tuple of str
        Buffers that `solve` sets; new random weights leave them as they are.
    """

    dim: int
    patch_samples: int = 0
    n_features: int = 0
    causal: bool = False
    fuses_channels: bool = False
    n_branches: int = 1
    hides_tokens: bool = False
    sees_before: bool = False
    takes_prompt: bool = False
    n_bins: int = 0
    idle: tuple[str, ...] = ()
    only_for_terms: tuple[str, ...] = ()
    solved: tuple[str, ...] = ()

    def encode(self, batch: NeuralBatch, *args: Any, **given: Any) -> Encoded:
        """Encode a batch; a model may take more than the batch, such as ``mask_tokens``."""
        raise NotImplementedError(f"{type(self).__name__} has no encode(batch)")

    def forward(self, batch: NeuralBatch, *args: Any, **given: Any) -> Encoded:
        """Encode a batch; see `encode`."""
        return self.encode(batch, *args, **given)

    def pool(self, encoded: Encoded) -> Tensor:
        """Return one vector per window, shape (B, D): the mean of the valid tokens."""
        return mean_token(encoded)

    # ── what belongs to a subject or a session ──

    def subject_parameters(self) -> list[str]:
        """Names of the parameters that a new subject gets afresh; none where all is shared."""
        return []

    def start_new_subject(self) -> None:
        """Set what belongs to a subject who is not in the vocabulary from the known subjects."""

    def grow(self, facts: Facts) -> None:
        """Take in vocabularies of channels (units) and sessions that begin with the present ones."""

    # ── what only some objectives ask for ──

    def embed_tokens(self, batch: NeuralBatch) -> Tensor:
        """Return tokens as they enter the network, shape (B, T, C, D); `encode` takes them as ``tokens``."""
        raise NotImplementedError

    def patch_features(self, signal: Tensor) -> Tensor:
        """Return what the model's tokenizer computes of the patches of a signal (B, C, S), shape (B, T, C, n_features)."""
        raise NotImplementedError

    def spectrogram(self, batch: NeuralBatch) -> Tensor:
        """Return what the network reads, shape (B, C, N, n_bins); `encode` takes one as ``spectrogram``, parts of it hidden."""
        raise NotImplementedError

    def voxels(self, embedding: Tensor, response: Tensor) -> Tensor:
        """Return a vector per voxel, (V, D), from stimuli (V or none, n, E) and its responses to them (V, n)."""
        raise NotImplementedError

    def encode_with_terms(
        self, batch: NeuralBatch, generator: torch.Generator | None = None
    ) -> tuple[Encoded, dict[str, Tensor]]:
        """Encode, and return terms of the model's own to be added to a loss."""
        return self(batch), {}

    def solve(self, stretches: Iterable[NeuralBatch], *, new_subject: bool) -> None:
        """Set what has a closed form from unbroken stretches of the training part, before any gradient step."""

    # ── segment by segment ──

    def begin_stream(self) -> Any:
        """Return the state of a stream before its first segment."""
        raise ConfigError(f"{type(self).__name__} cannot be fed segment by segment, so it cannot be rolled out")

    def step(self, batch: NeuralBatch, state: Any = None) -> tuple[Encoded, Any]:
        """Encode the next segments of a stream; return their tokens and the state for the next step."""
        raise NotImplementedError


class CodebookModel(Backbone):
    """A model that is also a tokenizer: signal → codes → signal.

    Attributes
    ----------
    rate_hz : float
        Of the signals it reads.
    n_codes : tuple of int
        Entries of each of the K codebooks.
    """

    rate_hz: float
    n_codes: tuple[int, ...]

    @torch.no_grad()
    def codes(self, batch: NeuralBatch) -> Codes:
        """Return the codes of a batch, those of its encoded tokens; nothing is learned from it."""
        was = self.training
        try:
            # without dropout and with running statistics: the code of a patch is no matter of chance
            self.eval()
            found = self(batch)
            code = self.codes_of(found)
        finally:
            self.train(was)
        return Codes(code, found.mask, found.channel, found.time_s)

    def codes_of(self, encoded: Encoded) -> Tensor:
        """Return the codes of encoded tokens, shape (B, N, K)."""
        raise NotImplementedError

    def decode(self, codes: Codes, batch: NeuralBatch) -> Tensor:
        """Return the signal that codes stand for, shape (B, C, S), in the units of `normalised`."""
        raise NotImplementedError

    def normalised(self, batch: NeuralBatch) -> Tensor:
        """Return the signal that `decode` approximates, shape (B, C, S): here as it is, zero in channels that are not there."""
        return batch.signal.masked_fill(~batch.channel_mask[..., None], 0.0)

    def losses(
        self, batch: NeuralBatch, generator: torch.Generator | None
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return the weighted terms to be summed, and metrics (usage and perplexity of each codebook, error by level)."""
        raise NotImplementedError


def offers(part: nn.Module, member: Callable[..., Any]) -> bool:
    """Whether a model or objective has its own answer where `member` is its base's: ``offers(model, Backbone.grow)``."""
    return getattr(type(part), member.__name__) is not member
