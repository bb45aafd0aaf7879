"""NeuroRVQ's tokenizer (arXiv:2510.13068): four temporal scales, a residual chain of codebooks for each.

Written from the paper and a description, not from the released code, whose quantizer normalises the input of every
level and so does not get finer with depth; here the chain is the textbook's.

Shape legend: B batch, T segment, C channel, N = T·C tokens (channel fastest), D width, P samples per patch, F frequency.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from neurofm.models.patch_choice import patch_length
from neurofm.models.patch_transformer import PatchTransformer
from neurofm.models.spectral_tokenizer import SpectralTokenizer
from neurofm.nn.patching import count_patches
from neurofm.nn.quantize import ResidualQuantizer
from neurofm.nn.spectrum import Spectrum, masked_deviation, masked_mean, patches_of, spectrum_of
from neurofm.schema.facts import Facts
from neurofm.tokenizers.temporal_conv import MultiScaleConv

# amplitudes up to e⁸, some thousand deviations of the signal: an untrained head must not overflow
_LARGEST_LOG = 8.0


class NeuroRVQTokenizer(SpectralTokenizer):
    """Multi-scale convolutions, shared encoder of 12 blocks, RVQ per scale, shared decoder of 3, heads over all scales.

    Parameters
    ----------
    facts : Facts
        Rate, window, vocabulary of channel names.
    patch_s, patch_samples : float or int
        Length of a patch; exactly one of the two (published: 1 s at 200 Hz).
    scaling, scale, phase
        As of `SpectralTokenizer`; published: windows scaled, sine and cosine.
    first_taps, second_taps : sequence of int
        Of the convolutions of each scale; their number is the number of branches.
    n_codes, n_levels, code_dim : int
        Size of each branch's chain.
    level_dropout, decay, commitment, restart_below
        As of `ResidualQuantizer`.
    time_weight : float
        Weight of the error of the waveform.
    dim, n_layers, n_decoder_layers, n_heads, mlp_dim, dropout
        Sizes of the transformers.
    space, n_names, n_positions
        As of `labram`; shorter windows use the last positions.
    """

    def __init__(
        self,
        facts: Facts,
        *,
        patch_s: float | None = None,
        patch_samples: int | None = None,
        scaling: str = "window",
        scale: float = 1.0,
        phase: str = "sincos",
        first_taps: Sequence[int] = (21, 15, 9, 5),
        second_taps: Sequence[int] = (9, 7, 5, 3),
        n_codes: int = 8192,
        n_levels: int = 8,
        code_dim: int = 128,
        level_dropout: bool = False,
        decay: float = 0.99,
        commitment: float = 1.0,
        restart_below: float = 0.05,
        time_weight: float = 1.0,
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
        patch = patch_length("neurorvq_tokenizer", facts.rate_hz, patch_s=patch_s, patch_samples=patch_samples)
        n_positions = n_positions or count_patches(facts.window_samples, patch)
        encoder, decoder = (
            PatchTransformer(
                facts, dim=dim, n_layers=n, n_heads=n_heads, mlp_dim=mlp_dim, space=space, n_names=n_names,
                n_positions=n_positions, right_aligned=True, dropout=dropout,
            )
            for n in (n_layers, n_decoder_layers)
        )  # fmt: skip
        quantizers = [
            ResidualQuantizer(
                code_dim, n_codes=n_codes, n_levels=n_levels, decay=decay, commitment=commitment,
                restart_below=restart_below, level_dropout=level_dropout,
            )
            for _ in first_taps
        ]  # fmt: skip
        super().__init__(
            rate_hz=facts.rate_hz, window_samples=facts.window_samples, patch_samples=patch, encoder=encoder,
            decoder=decoder, quantizers=quantizers, dim=dim, code_dim=code_dim, scaling=scaling, scale=scale,
            phase=phase,
        )  # fmt: skip
        self.time_weight = time_weight
        self.tokenizer = MultiScaleConv(dim, patch_samples=patch, first_taps=first_taps, second_taps=second_taps)
        n_bins = patch // 2 + 1
        self.log_amplitude = nn.Sequential(nn.Linear(self.dim, dim), nn.GELU(), nn.Linear(dim, n_bins))
        # sine and cosine of the phase, or the angle
        self.phases = nn.ModuleList(
            nn.Sequential(nn.Linear(self.dim, dim), nn.Tanh(), nn.Linear(dim, n_bins))
            for _ in range(2 if phase == "sincos" else 1)
        )

    def branches(self, signal: Tensor) -> list[Tensor]:
        """Return the tokens of each scale, each (B, T, C, D)."""
        return self.tokenizer(signal)

    def spectrum(self, tokens: Tensor) -> Spectrum:
        """Return amplitude and phase of each patch, each part (B, N, F)."""
        return self._spectrum(self.log_amplitude(tokens), [head(tokens) for head in self.phases])

    def terms(self, tokens: Tensor, patches: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Errors of the logarithmic amplitude, the phase and the waveform, each relative to its variance in the window."""
        truth = spectrum_of(patches)
        log, phases = self.log_amplitude(tokens), [head(tokens) for head in self.phases]
        target = truth.amplitude.log1p()
        _, deviation = masked_deviation(target, mask)
        amplitude = self._mean(((log - target) / deviation).square(), mask)
        phase = self.phase_error(phases, truth, mask)
        _, deviation = masked_deviation(patches, mask)
        error = (patches_of(self._spectrum(log, phases), self.patch_samples) - patches) / deviation
        return {"amplitude": amplitude, "phase": phase, "time": self.time_weight * masked_mean(error.square(), mask)}

    def _spectrum(self, log: Tensor, phases: list[Tensor]) -> Spectrum:
        return Spectrum(log.clamp(0.0, _LARGEST_LOG).expm1(), *self.sine_and_cosine(phases))
