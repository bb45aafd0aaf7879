"""MindBridge: one fMRI decoder for subjects with any number of voxels (Wang et al., CVPR 2024, arXiv:2404.07850).

Voxels → pooling to a common number → the subject's embedder → shared residual translator → one vector; the subject's
builder leads back from the embedder's code to the pooled voxels. Reconstruction and cycle come as the model's own terms;
SoftCLIP and regression are the objective's (`conf/objective/alignment_mindbridge.yaml`). The published heads to
257 × 768 and 77 × 768 numbers hold nine tenths of the weights; here the objective's low-rank head stands in for them.

The pooled vector has no anatomy left in it: neighbours are whatever voxels come next in the file.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from neurofm.models.base import Backbone, Encoded
from neurofm.models.layout import one_token
from neurofm.models.vector import mean_over_time
from neurofm.nn.adaptive_pool import pool_channels
from neurofm.nn.subject_linear import SubjectLinear, SubjectScale, rows_of, start_from_mean, tables_of
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import ConfigError
from neurofm.schema.facts import Facts


class _SubjectAdapter(nn.Module):
    """x + up(ReLU(down x)), each subject's own; `up` starts from zero."""

    def __init__(self, n_subjects: int, dim: int, bottleneck: int) -> None:
        super().__init__()
        self.down = SubjectLinear(n_subjects=n_subjects, n_in=dim, n_out=bottleneck, bias=True)
        self.up = SubjectLinear(n_subjects=n_subjects, n_in=bottleneck, n_out=dim, bias=True, std=0.0)

    def forward(self, x: Tensor, rows: Tensor) -> Tensor:
        return x + self.up(F.relu(self.down(x, rows)), rows)


class _SubjectLayer(nn.Module):
    """Dropout(GELU(norm(linear x))), each subject's own."""

    def __init__(self, n_subjects: int, n_in: int, n_out: int, dropout: float) -> None:
        super().__init__()
        self.linear = SubjectLinear(n_subjects=n_subjects, n_in=n_in, n_out=n_out, bias=True)
        self.norm = SubjectScale(n_subjects=n_subjects, dim=n_out)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, rows: Tensor) -> Tensor:
        return self.dropout(F.gelu(self.norm(self.linear(x, rows), rows)))


class MindBridge(Backbone):
    """Pooled voxels, per-subject embedder and builder, shared residual translator; one token per window.

    Parameters
    ----------
    facts : Facts
        Subjects.
    n_pooled : int
        Common number of inputs.
    pooling : str
        "max" (published) or "average".
    dim, n_blocks : int
        Width and depth of the translator.
    bottleneck : int
        Of the adapters.
    embedder_dropout, dropout : float
        Of the embedder and of the translator's blocks.
    """

    # builders serve reconstruction and cycle alone
    only_for_terms = ("build_layer", "build_adapter")

    def __init__(
        self,
        facts: Facts,
        *,
        n_pooled: int = 8192,
        pooling: str = "max",
        dim: int = 2048,
        n_blocks: int = 4,
        bottleneck: int = 128,
        embedder_dropout: float = 0.5,
        dropout: float = 0.15,
    ) -> None:
        super().__init__()
        if min(n_pooled, dim, bottleneck) < 1:
            raise ConfigError(f"mindbridge: n_pooled={n_pooled}, dim={dim} and bottleneck={bottleneck} must be above 0")
        self.dim, self.n_pooled, self.pooling, self.n_subjects = dim, n_pooled, pooling, len(facts.subjects)
        n = self.n_subjects
        self.embed_adapter = _SubjectAdapter(n, n_pooled, bottleneck)
        self.embed_layer = _SubjectLayer(n, n_pooled, dim, embedder_dropout)
        self.build_layer = _SubjectLayer(n, dim, n_pooled, 0.0)
        self.build_adapter = _SubjectAdapter(n, n_pooled, bottleneck)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(dim, dim), nn.LayerNorm(dim), nn.GELU(), nn.Dropout(dropout))
            for _ in range(n_blocks)
        )

    def encode(self, batch: NeuralBatch) -> Encoded:
        """Encode a batch: one token per window."""
        pooled, rows = self._inputs(batch)
        return one_token(self._translate(self._embed(pooled, rows)), batch)

    def encode_with_terms(
        self, batch: NeuralBatch, generator: torch.Generator | None = None
    ) -> tuple[Encoded, dict[str, Tensor]]:
        """Encode, and return "reconstruction" and "cycle".

        The cycle takes the codes of one subject a of the batch through builder and embedder of another subject b:
        mean (e_a − embedder_b(builder_b(e_a)))². It needs no data of b, so one subject's batch will do; with nobody
        else in the vocabulary there is no cycle.
        """
        pooled, rows = self._inputs(batch)
        code = self._embed(pooled, rows)
        terms = {"reconstruction": F.mse_loss(self._build(code, rows), pooled)}
        present = rows.unique().tolist()
        a = present[int(torch.randint(len(present), (), generator=generator))]
        others = [row for row in range(1, self.n_subjects + 1) if row != a]
        if others:
            b = others[int(torch.randint(len(others), (), generator=generator))]
            mine = code[rows == a]
            theirs = torch.full((len(mine),), b, device=rows.device)
            terms["cycle"] = F.mse_loss(self._embed(self._build(mine, theirs), theirs), mine)
        return one_token(self._translate(code), batch), terms

    def subject_parameters(self) -> list[str]:
        """Return the tables of embedders and builders."""
        return tables_of(self)

    def start_new_subject(self) -> None:
        """Give whoever is not in the vocabulary the mean of the known subjects' embedders and builders.

        Pooled voxels of two people share no coordinates, so this is a worse start here than for virtual sensors; a
        ridge regression to the known subjects' codes of shared stimuli is the better one.
        """
        start_from_mean(self)

    def _inputs(self, batch: NeuralBatch) -> tuple[Tensor, Tensor]:
        pooled = pool_channels(mean_over_time(batch), batch.channel_mask, self.n_pooled, kind=self.pooling)
        return pooled, rows_of(batch.subject, self.n_subjects + 1, len(pooled), pooled.device)

    def _embed(self, pooled: Tensor, rows: Tensor) -> Tensor:
        return self.embed_layer(self.embed_adapter(pooled, rows), rows)

    def _build(self, code: Tensor, rows: Tensor) -> Tensor:
        return self.build_adapter(self.build_layer(code, rows), rows)

    def _translate(self, code: Tensor) -> Tensor:
        for block in self.blocks:
            code = code + block(code)
        return code
