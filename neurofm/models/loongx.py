"""LoongX's encoders: EEG, fNIRS, PPG and motion to one embedding, by gated fusion (Zhou et al., NeurIPS 2025, arXiv:2507.05397).

Each signal on its own clock → state-space features and a pyramid of mean pools → two-layer network → tokens. PPG modulates
EEG, motion modulates fNIRS; both pairs together give one vector. There is no diffusion part: the vector is aligned with
an image or text embedding by the objective. In the release the optimiser holds only the editor's adapters, so these
encoders were never trained; here they are all there is to train.

EEG is `batch.signal` over a fixed montage, as in `nice`; the others are `batch.streams`. A stream that a window lacks is
zeros, and its modulation is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from neurofm.models.base import Backbone, Encoded
from neurofm.models.layout import one_token
from neurofm.models.vector import montage_size
from neurofm.nn.gated_fusion import GatedFusion
from neurofm.nn.montage import to_montage
from neurofm.nn.s4d import S4DBlock
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import ConfigError, DataError, nearest
from neurofm.schema.facts import Facts

STREAMS = ("ppg", "fnirs", "motion")


class _SignalEncoder(nn.Module):
    """Cross-scale state-space encoder: deep and shallow state-space features, pyramid of pools, two-layer network.

    (B, C, S) → (B, tokens, width).
    """

    def __init__(
        self, *, n_channels: int, n_samples: int, pyramid: Sequence[int], pooled: int, state_dim: int, n_blocks: int,
        hidden: int, tokens: int, width: int, dropout: float,
    ) -> None:  # fmt: skip
        super().__init__()
        self.n_channels, self.n_samples, self.pyramid, self.pooled = n_channels, n_samples, tuple(pyramid), pooled
        self.shape = (tokens, width)
        self.enter = nn.Conv1d(n_channels, state_dim, 1)
        self.deep = nn.Sequential(*(S4DBlock(state_dim, dropout=dropout) for _ in range(n_blocks)))
        self.leave = nn.Conv1d(state_dim, n_channels, 1)
        self.shallow = S4DBlock(n_channels)
        n_features = n_channels * (sum(self.pyramid) + 2 * pooled)
        self.project = nn.Sequential(
            nn.Linear(n_features, hidden), nn.LayerNorm(hidden), nn.ReLU(), nn.Dropout(dropout),
            nn.Linear(hidden, tokens * width),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        x = x[..., : self.n_samples]
        x = F.pad(x, (0, self.n_samples - x.shape[-1]))
        deep = F.adaptive_avg_pool1d(self.leave(self.deep(self.enter(x))), self.pooled)
        shallow = F.adaptive_avg_pool1d(self.shallow(x), self.pooled)
        scales = [F.adaptive_avg_pool1d(x, n) for n in self.pyramid]
        return self.project(torch.cat([deep, shallow, *scales], dim=-1).flatten(1)).unflatten(1, self.shape)


class LoongX(Backbone):
    """Encoders of up to four signals and their fusion; one token per window.

    Parameters
    ----------
    facts : Facts
        Names of the electrodes.
    streams : mapping
        Further signals: any of "ppg", "fnirs", "motion" → ``{"channels": …, "samples": …, "pyramid": […], "pooled": …}``.
        Longer streams are cut, shorter ones followed by zeros.
    eeg_samples, eeg_pyramid, eeg_pooled
        The same of the EEG.
    state_dim, n_blocks : int
        Width and depth of the state-space stack.
    hidden : int
        Of each encoder's network.
    tokens, width : int
        Shape of each encoder's output.
    dim : int
        Width D of the result.
    gate_hidden, keep
        Of `GatedFusion`.
    dropout : float
        In the encoders.
    """

    def __init__(
        self,
        facts: Facts,
        *,
        streams: Mapping[str, Mapping[str, Any]] | None = None,
        eeg_samples: int = 4096,
        eeg_pyramid: Sequence[int] = (128, 256, 512, 1024, 2048),
        eeg_pooled: int = 64,
        state_dim: int = 64,
        n_blocks: int = 2,
        hidden: int = 2048,
        tokens: int = 512,
        width: int = 8,
        dim: int = 768,
        gate_hidden: int = 128,
        keep: float = 0.7,
        dropout: float = 0.3,
    ) -> None:
        super().__init__()
        self.n_channels, self.dim = montage_size("loongx", facts), dim
        common: dict[str, Any] = dict(
            state_dim=state_dim, n_blocks=n_blocks, hidden=hidden, tokens=tokens, width=width, dropout=dropout
        )
        self.eeg = _SignalEncoder(
            n_channels=self.n_channels, n_samples=eeg_samples, pyramid=eeg_pyramid, pooled=eeg_pooled, **common
        )
        self.encoders = nn.ModuleDict()
        for name, shape in (streams or {}).items():
            if name not in STREAMS:
                raise ConfigError(f"loongx: unknown stream '{name}': {nearest(name, STREAMS)}")
            self.encoders[name] = _SignalEncoder(
                n_channels=int(shape["channels"]), n_samples=int(shape["samples"]), pyramid=shape["pyramid"],
                pooled=int(shape["pooled"]), **common,
            )  # fmt: skip
        fused = [n for n, partner in (("ppg", "eeg"), ("motion", "fnirs")) if n in self.encoders and self._has(partner)]
        self.fusions = nn.ModuleDict({n: GatedFusion(width=width, hidden=gate_hidden, keep=keep) for n in fused})
        branches = 1 + ("fnirs" in self.encoders) + ("motion" in self.encoders and "fnirs" not in self.encoders)
        self.norm = nn.LayerNorm(branches * tokens * width)
        self.out = nn.Linear(branches * tokens * width, dim)

    def encode(self, batch: NeuralBatch) -> Encoded:
        """Encode a batch: one token per window."""
        x, _ = to_montage(batch.signal, batch.channel_mask, batch.channel_ids, self.n_channels, model="loongx")
        found = {name: self._stream(name, batch) for name in self.encoders}
        branches = [self._fuse("ppg", self.eeg(x), found)]
        if "fnirs" in found:
            features, there = found["fnirs"]
            branches.append(self._fuse("motion", features, found) * there)
        elif "motion" in found:
            features, there = found["motion"]
            branches.append(features * there)
        return one_token(self.out(self.norm(torch.cat([b.flatten(1) for b in branches], dim=1))), batch)

    def _has(self, name: str) -> bool:
        return name == "eeg" or name in self.encoders

    def _stream(self, name: str, batch: NeuralBatch) -> tuple[Tensor, Tensor]:
        """Features (B, tokens, width) of one stream, and which windows have it, (B, 1, 1)."""
        if name not in batch.streams:
            raise DataError(
                f"loongx: the batch has no stream '{name}' (it has {', '.join(batch.streams) or 'none'}); "
                "read it with data.streams, or leave it out of model.streams"
            )
        encoder = self.encoders[name]
        values, _, mask = batch.streams[name]
        if values.shape[-1] != encoder.n_channels:
            raise DataError(
                f"loongx: stream '{name}' has {values.shape[-1]} channels, model.streams says {encoder.n_channels}"
            )
        features = encoder((values * mask[..., None]).to(batch.signal).transpose(1, 2))
        return features, mask.any(1)[:, None, None]

    def _fuse(self, condition: str, features: Tensor, found: Mapping[str, tuple[Tensor, Tensor]]) -> Tensor:
        if condition not in self.fusions:
            return features
        other, there = found[condition]
        return torch.where(there, self.fusions[condition](features, other), features)
