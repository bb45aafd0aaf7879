"""Attention in continuous time: rotary angles from times in seconds, so that only differences of times enter.

Source: POYO (Azabou et al. 2023, arXiv:2310.16046). Half of each head's numbers turn with periods spaced evenly in
logarithm, the others do not turn. Queries and keys are turned; where `turn_values`, values are too and the result is
turned back by the query's angle, so that what is passed on depends on the difference of times as well.

Shape legend: B batch, Q query, K key, H head, E numbers per head, D width.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from neurofm.schema.errors import ConfigError

SHORTEST_S, LONGEST_S = 1e-4, 2.0627


class RotaryTime(nn.Module):
    """Times → angles → turned vectors.

    Parameters
    ----------
    head_dim : int
        Numbers per head E, a multiple of 4: the first half turns in pairs.
    shortest_s, longest_s : float
        Periods of the first and the last pair. A period of 1e-4 s makes an angle of 2π·10⁴ per second, so times must
        count from the window's start: float32 then errs by about 1e-3 rad at 1 s and by everything at 1000 s.
    """

    def __init__(self, head_dim: int, *, shortest_s: float = SHORTEST_S, longest_s: float = LONGEST_S) -> None:
        super().__init__()
        if head_dim % 4 or not 0 < shortest_s < longest_s:
            raise ConfigError(
                f"rotary time: head_dim={head_dim} must be a multiple of 4 and 0 < shortest_s={shortest_s:g} < "
                f"longest_s={longest_s:g}"
            )
        n = head_dim // 4
        periods = torch.logspace(math.log10(shortest_s), math.log10(longest_s), n, dtype=torch.float64, device="cpu")
        # not saved, and in float64 whatever the module is cast to: see `angles`
        self.turns_per_s = tuple((1 / periods).tolist())

    def angles(self, time_s: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Return cosine and sine, shape (B, 1, time, E / 4), computed in float32 or better under autocast too."""
        wide = torch.float64 if dtype == torch.float64 else torch.float32
        rate = torch.tensor(self.turns_per_s, dtype=wide, device=time_s.device)
        turns = time_s.to(wide)[..., None] * rate
        # whole turns do nothing, and small angles are exact
        angle = 2 * math.pi * (turns - turns.floor())
        return angle.cos()[:, None], angle.sin()[:, None]


def turn(x: Tensor, cos: Tensor, sin: Tensor, *, back: bool = False) -> Tensor:
    """Turn the first half of the last axis of x, shape (B, H, time, E), by an angle, or back by it."""
    n = cos.shape[-1]
    a, b, rest = x[..., :n], x[..., n : 2 * n], x[..., 2 * n :]
    s = -sin if back else sin
    return torch.cat([a * cos - b * s, a * s + b * cos, rest], dim=-1).to(x.dtype)


class RotaryAttention(nn.Module):
    """Attention of Q queries over K keys with times; cost and memory are linear in K.

    Parameters
    ----------
    dim, context_dim : int
        Width of queries and of what is attended to.
    n_heads, head_dim : int
        H and E.
    dropout : float
        On the attention's weights.
    turn_values : bool
        See the module.
    """

    def __init__(
        self, dim: int, *, context_dim: int | None = None, n_heads: int, head_dim: int, dropout: float = 0.0,
        turn_values: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        inner = n_heads * head_dim
        self.n_heads, self.rate, self.turn_values = n_heads, dropout, turn_values
        self.norm = nn.LayerNorm(dim)
        self.norm_context = None if context_dim is None else nn.LayerNorm(context_dim)
        self.query = nn.Linear(dim, inner, bias=False)
        self.key_value = nn.Linear(context_dim or dim, 2 * inner, bias=False)
        self.out = nn.Linear(inner, dim)

    def forward(
        self,
        x: Tensor,
        angles: tuple[Tensor, Tensor],
        context: Tensor | None = None,
        context_angles: tuple[Tensor, Tensor] | None = None,
        bias: Tensor | None = None,
    ) -> Tensor:
        """Return what is to be added to x.

        Parameters
        ----------
        x : Tensor, shape (B, Q, D)
        angles : pair of Tensor
            Of the queries, from `RotaryTime.angles`.
        context : Tensor, shape (B, K, context_dim), optional
            Default: x itself.
        context_angles : pair of Tensor, optional
            Of the keys.
        bias : Tensor, shape (B, 1, 1 or Q, K), optional
            Added to the logits (−inf = not seen), or bool (False = not seen).
        """
        x = self.norm(x)
        if context is None:
            context, context_angles = x, angles
        else:
            assert self.norm_context is not None
            assert context_angles is not None
            context = self.norm_context(context)
        q = turn(self._heads(self.query(x)), *angles)
        # keys and values side by side as twice as many heads, so that both are turned in one go
        key_value = self.key_value(context).unflatten(-1, (2 * self.n_heads, -1)).transpose(1, 2)
        if self.turn_values:
            k, v = turn(key_value, *context_angles).chunk(2, dim=1)
        else:
            k, v = key_value.chunk(2, dim=1)
            k = turn(k, *context_angles)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, dropout_p=self.rate if self.training else 0.0)
        if self.turn_values:
            mixed = turn(mixed, *angles, back=True)
        return self.out(mixed.transpose(1, 2).flatten(2))

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.n_heads, -1)).transpose(1, 2)
