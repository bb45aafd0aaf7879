"""LaBraM's neural tokenizer (Jiang et al., ICLR 2024, arXiv:2405.18765, section 2.3): a code that predicts the spectrum.

Shape legend: B batch, T segment, C channel, N = T·C tokens (channel fastest), D width, P samples per patch, F frequency.
"""

from __future__ import annotations

from torch import Tensor, nn

from neurofm.models.patch_choice import patch_length
from neurofm.models.patch_transformer import PatchTransformer
from neurofm.models.spectral_tokenizer import SpectralTokenizer
from neurofm.nn.patching import count_patches
from neurofm.nn.quantize import VectorQuantizer
from neurofm.nn.spectrum import Spectrum, masked_deviation, spectrum_of
from neurofm.schema.facts import Facts
from neurofm.tokenizers.temporal_conv import TemporalConv


class LaBraMTokenizer(SpectralTokenizer):
    """Encoder of 12 blocks, one codebook of unit vectors, decoder of 3, heads for amplitude and phase.

    Parameters
    ----------
    facts : Facts
        Rate, window, vocabulary of channel names.
    patch_s, patch_samples : float or int
        Length of a patch; exactly one of the two (published: 1 s at 200 Hz).
    scaling, scale, phase
        As of `SpectralTokenizer`; published: 0.01 on µV, and the angle.
    n_codes, code_dim : int
        Size of the codebook.
    decay, commitment, restart_below
        As of `VectorQuantizer`.
    dim, n_layers, n_decoder_layers, n_heads, mlp_dim, dropout
        Sizes of the transformers.
    space, n_names, n_positions
        As of `labram`.

    Notes
    -----
    Errors of amplitude and angle count in units of their deviation in the window, as published; but the heads give
    the values themselves, so that codes can be decoded without the original's mean and deviation.
    """

    def __init__(
        self,
        facts: Facts,
        *,
        patch_s: float | None = None,
        patch_samples: int | None = None,
        scaling: str = "none",
        scale: float = 1.0,
        phase: str = "angle",
        n_codes: int = 8192,
        code_dim: int = 64,
        decay: float = 0.99,
        commitment: float = 1.0,
        restart_below: float = 0.05,
        dim: int = 200,
        n_layers: int = 12,
        n_decoder_layers: int = 3,
        n_heads: int = 10,
        mlp_dim: int | None = None,
        dropout: float = 0.0,
        space: str = "name",
        n_names: int | None = None,
        n_positions: int | None = None,
    ) -> None:
        patch = patch_length("labram_tokenizer", facts.rate_hz, patch_s=patch_s, patch_samples=patch_samples)
        n_positions = n_positions or count_patches(facts.window_samples, patch)
        encoder, decoder = (
            PatchTransformer(
                facts, dim=dim, n_layers=n, n_heads=n_heads, mlp_dim=mlp_dim, space=space, n_names=n_names,
                n_positions=n_positions, dropout=dropout,
            )
            for n in (n_layers, n_decoder_layers)
        )  # fmt: skip
        quantizer = VectorQuantizer(
            code_dim, n_codes=n_codes, decay=decay, commitment=commitment, restart_below=restart_below
        )
        super().__init__(
            rate_hz=facts.rate_hz, window_samples=facts.window_samples, patch_samples=patch, encoder=encoder,
            decoder=decoder, quantizers=[quantizer], dim=dim, code_dim=code_dim, scaling=scaling, scale=scale,
            phase=phase,
        )  # fmt: skip
        self.tokenizer = TemporalConv(dim, patch_samples=patch)
        n_bins = patch // 2 + 1
        self.amplitude = _head(dim, n_bins)
        self.angle = _head(dim, n_bins if phase == "angle" else 2 * n_bins)

    def branches(self, signal: Tensor) -> list[Tensor]:
        """Return the tokens of the patches, one branch of (B, T, C, D)."""
        return [self.tokenizer(signal)]

    def spectrum(self, tokens: Tensor) -> Spectrum:
        """Return amplitude and phase of each patch, each part (B, N, F)."""
        return Spectrum(self.amplitude(tokens).clamp(min=0), *self.sine_and_cosine(self._phases(tokens)))

    def terms(self, tokens: Tensor, patches: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Squared errors of amplitude and phase (eq. 6), each relative to its variance in the window."""
        truth = spectrum_of(patches)
        _, deviation = masked_deviation(truth.amplitude, mask)
        amplitude = self._mean(((self.amplitude(tokens) - truth.amplitude) / deviation).square(), mask)
        return {"amplitude": amplitude, "phase": self.phase_error(self._phases(tokens), truth, mask)}

    def _phases(self, tokens: Tensor) -> tuple[Tensor, ...]:
        return self.angle(tokens).chunk(1 if self.phase == "angle" else 2, -1)


def _head(dim: int, n_out: int) -> nn.Module:
    return nn.Sequential(nn.Linear(dim, dim), nn.Tanh(), nn.Linear(dim, n_out))
