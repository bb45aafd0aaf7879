"""What Du-IN's tokenizer and backbone share (Zheng et al. 2024, arXiv:2405.11459; released sources).

    signal of all channels ─ subject layer ─ 16 shared channels ─ patches ─ three convolutions ─ one token per patch
    tokens + time ─ post-norm blocks

Shape legend: B batch, C channel, S sample, N patch = token, P samples per patch, D width, H head.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from neurofm.nn.patching import count_patches
from neurofm.nn.subject_layer import SubjectLayer
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import ConfigError, DataError


class RegionTokenizer(nn.Module):
    """Fuse a subject's channels and embed each patch by convolutions that do not look beyond it.

    Parameters
    ----------
    n_subjects, n_channels : int
        Of the subject layer.
    patch_samples : int
        P, a multiple of `stride`.
    n_shared : int
        Channels of the space that subjects share, and filters of the last convolution.
    conv_dim : int
        Filters of the first two.
    stride : int
        Samples per step of the first; its kernel is twice that less one. The width D is steps × `n_shared`.
    """

    def __init__(
        self, *, n_subjects: int, n_channels: int, patch_samples: int, n_shared: int, conv_dim: int, stride: int
    ) -> None:
        super().__init__()
        if stride < 1 or patch_samples % stride:
            raise ConfigError(f"du_in: a patch of {patch_samples} samples must be a multiple of stride={stride}")
        self.patch_samples, self.dim = patch_samples, patch_samples // stride * n_shared
        self.subject_layer = SubjectLayer(n_subjects, n_channels, n_shared)
        self.convolutions = nn.Sequential(
            nn.Conv1d(n_shared, conv_dim, 2 * stride - 1, stride=stride, padding=stride - 1),
            nn.BatchNorm1d(conv_dim),
            nn.Conv1d(conv_dim, conv_dim, 3, padding=1),
            nn.BatchNorm1d(conv_dim),
            nn.Conv1d(conv_dim, n_shared, 3, padding=1),
            nn.BatchNorm1d(n_shared),
        )

    def forward(self, batch: NeuralBatch) -> Tensor:
        """Return one token per patch, shape (B, N, D), the steps of a patch one after the other."""
        n = count_patches(batch.signal.shape[-1], self.patch_samples)
        shared = self.subject_layer(batch.signal, batch.subject, batch.channel_mask)
        patches = shared.unflatten(-1, (n, self.patch_samples)).transpose(1, 2).flatten(0, 1)
        return self.convolutions(patches).transpose(1, 2).flatten(1).unflatten(0, (-1, n))


class Block(nn.Module):
    """norm(x + attention(x)), then norm(x + feedforward(x)); queries and keys are normalised in each head.

    Parameters
    ----------
    dim, n_heads, head_dim, ffn_dim : int
        Widths; heads need not share out `dim`.
    dropout : float
        On attention weights and inside the feed-forward layer.
    number : int
        Of the block, from 0: weights start smaller by the square root of 2 (number + 1).
    """

    def __init__(self, dim: int, *, n_heads: int, head_dim: int, ffn_dim: int, dropout: float, number: int) -> None:
        super().__init__()
        inner = n_heads * head_dim
        self.n_heads, self.rate = n_heads, dropout
        self.query, self.key, self.value = (nn.Linear(dim, inner) for _ in range(3))
        self.query_norm, self.key_norm = nn.LayerNorm(head_dim), nn.LayerNorm(head_dim)
        self.out = nn.Linear(inner, dim)
        self.feedforward = nn.Sequential(
            nn.Linear(dim, ffn_dim), nn.ReLU(), nn.Dropout(dropout), nn.Linear(ffn_dim, dim)
        )
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02 / (2 * (number + 1)) ** 0.5)
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens (B, N, D)."""
        q, k, v = (f(x).unflatten(-1, (self.n_heads, -1)).transpose(1, 2) for f in (self.query, self.key, self.value))
        mixed = F.scaled_dot_product_attention(
            self.query_norm(q), self.key_norm(k), v, dropout_p=self.rate if self.training else 0.0
        )
        x = self.norm1(x + self.out(mixed.transpose(1, 2).flatten(2)))
        return self.norm2(x + self.feedforward(x))


def check_whole(batch: NeuralBatch) -> None:
    """Refuse windows with missing samples."""
    if not bool(batch.time_mask.all()):
        raise DataError("field time_mask: du_in takes no missing samples; cut windows inside valid intervals")
