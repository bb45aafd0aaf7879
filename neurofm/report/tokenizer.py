"""What a tokenizer keeps of a signal: reconstruction by frequency band and number of levels, and the use of its codes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neurofm.hub.load import LoadedModel, load_model
from neurofm.models.base import CodebookModel
from neurofm.nn.bands import band_powers
from neurofm.report.canvas import CYCLE, colour, finish, new_figure, row, soften, style
from neurofm.report.content import Drawing, Report, Section, Table
from neurofm.report.figures_signals import traces
from neurofm.report.html import write_report
from neurofm.schema.words import counted
from neurofm.training.reopen import corpus_of

WHOLE = "waveform"


@dataclass(kw_only=True)
class Reconstruction:
    """What was measured on one part of the data.

    Attributes
    ----------
    part : str
        Its name.
    r2 : dict of int to dict of str to float
        Levels used → band (or "waveform") → R².
    power : dict of str to float
        Band → share of the signal's power; R² of a band that was filtered out means nothing.
    bits_per_s : dict of int to float
        Levels used → bits per second and channel, each code at the logarithm of its codebook's size.
    perplexity, usage : ndarray, shape (codebook,)
        Of all codes of the part.
    example : dict of str to ndarray, shape (time,)
        One channel of the first window: "real", and what the first level and all levels give back.
    """

    part: str
    r2: dict[int, dict[str, float]]
    power: dict[str, float]
    bits_per_s: dict[int, float]
    perplexity: np.ndarray
    usage: np.ndarray
    example: dict[str, np.ndarray] = field(repr=False)


def prefixes(n_levels: int) -> list[int]:
    """Numbers of levels to report: 1, 2, 4 … and all."""
    return sorted({min(2**i, n_levels) for i in range(n_levels.bit_length() + 1)})


@torch.inference_mode()
def reconstruct(
    loaded: LoadedModel, *, batch_size: int = 64, bands_hz: Mapping[str, tuple[float, float]] | None = None
) -> Reconstruction:
    """Encode and decode the validation part of what the tokenizer was trained on, or that itself where there is none.

    `bands_hz` names other bands than the usual ones.
    """
    model: Any = loaded.model
    assert isinstance(model, CodebookModel)
    corpus = corpus_of(loaded)
    part = "validation" if corpus.split.parts.get("validation") else "pretrain"
    loader = corpus.loader(part, loaded.facts, batch_size=batch_size, seed=0, training=False)
    n_branches = model.n_branches
    levels = prefixes(len(model.n_codes) // n_branches)
    error: dict[tuple[int, str], float] = defaultdict(float)
    power: dict[tuple[int, str], float] = defaultdict(float)
    counts = [torch.zeros(k, dtype=torch.long) for k in model.n_codes]
    example: dict[str, np.ndarray] = {}
    for batch in loader:
        codes, truth = model.codes(batch), model.normalised(batch)
        there = batch.channel_mask & batch.time_mask.all(1, keepdim=True)
        for k, count in enumerate(counts):
            count += torch.bincount(codes.code[..., k][codes.mask], minlength=len(count))
        for n in levels:
            code = codes.code.unflatten(-1, (n_branches, -1))[..., :n].flatten(-2)
            estimate = model.decode(codes._replace(code=code), batch)
            _add(error, power, n, estimate, truth, there, batch.rate_hz, bands_hz)
            if len(example) < 1 + len({1, levels[-1]}) and bool(there[0].any()):
                channel = int(there[0].nonzero()[0])
                example.setdefault("real", truth[0, channel].numpy())
                if n in (1, levels[-1]):
                    example.setdefault(_levels(n), estimate[0, channel].numpy())
    patch_s = model.patch_samples / model.rate_hz
    bits = np.log2(model.n_codes).reshape(n_branches, -1)
    share = [c.double() / max(1, int(c.sum())) for c in counts]
    r2: dict[int, dict[str, float]] = {n: {} for n in levels}
    for (n, band), e in error.items():
        r2[n][band] = 1 - e / max(power[n, band], 1e-12)
    bands = {band: p for (n, band), p in power.items() if n == 1 and band != WHOLE}
    return Reconstruction(
        part=part,
        r2=r2,
        power={band: p / max(sum(bands.values()), 1e-12) for band, p in bands.items()},
        bits_per_s={n: float(bits[:, :n].sum() / patch_s) for n in levels},
        perplexity=np.array([float(torch.special.entr(p).sum().exp()) for p in share]),
        usage=np.array([float((p > 0).double().mean()) for p in share]),
        example=example,
    )


def write_tokenizer_report(run: str | Path) -> Path:
    """Measure the tokenizer of a run folder and write ``plots/tokenizer/report.html`` into it; return that path."""
    loaded = load_model(run)
    found, card = reconstruct(loaded), loaded.card
    rate_hz = loaded.facts.rate_hz
    last = max(found.r2)
    sections = [
        Section(
            title="Reconstruction by frequency band",
            lead=f"R² of the decoded codes against the signal that they stand for, over the part '{found.part}'. "
            + ("It was trained on this part. " if found.part == "pretrain" else "It was not trained on this part. ")
            + "An R² below zero is worse than writing zeros; a band that was filtered out has next to no power to explain.",
            drawings=[(band_figure(found), "R² by band; one line per number of levels used.")],
            tables=[_band_table(found)],
        ),
        Section(
            title="A window",
            drawings=[
                (
                    traces(
                        found.example["real"][:, None],
                        {k: v[:, None] for k, v in found.example.items() if k != "real"},
                        titles=["first good channel of the first window"],
                        step_s=1 / rate_hz,
                    ),
                    "The signal, and what its codes give back.",
                )
            ],
        ),
        Section(title="Use of the codes", tables=[_use_table(found, loaded)]),
    ]
    name, datasets = card["model"]["name"], ", ".join(d["id"] for d in card["provenance"]["datasets"])
    return write_report(
        Path(run) / "plots" / "tokenizer",
        Report(
            title=f"Tokenizer {name} on {datasets}",
            subtitle=f"{found.bits_per_s[last]:.0f} bits per second and channel with all {last} levels",
            claims=[],
            sections=sections,
            scores=[
                {
                    "dataset": datasets,
                    "model": name,
                    "part": found.part,
                    "metric": f"r2_{band}",
                    "value": value,
                    "budget": n,
                    "budget_unit": "levels",
                    "seed": card["provenance"].get("seed"),
                    "checkpoint_hash": card["weights"]["sha256"],
                    "note": f"{found.bits_per_s[n]:g} bits per second and channel",
                }
                for n, bands in found.r2.items()
                for band, value in bands.items()
            ],
            looks={},
            facts={"weights": card["weights"]["sha256"], "split": card["provenance"]["split"]["hash"]},
            leak_reason="",
        ),
    )


def band_figure(found: Reconstruction) -> Drawing:
    """R² by band, one line per number of levels."""
    bands = [b for b in next(iter(found.r2.values())) if b != WHOLE]
    rows, words = [], []
    with style():
        figure = new_figure(6.6, 3.2)
        ax = figure.subplots()
        for place, (n, scores) in enumerate(found.r2.items()):
            y = [scores[b] for b in bands]
            ax.plot(range(len(bands)), y, marker="o", color=colour(CYCLE[place % len(CYCLE)], place), label=_levels(n))
            rows += [row("bands", series=_levels(n), x=i, y=v, y_label="R²", label=b)
                     for i, (b, v) in enumerate(zip(bands, y, strict=True))]  # fmt: skip
            words.append(f"{_levels(n)}: " + ", ".join(f"{b} {v:.2f}" for b, v in zip(bands, y, strict=True)))
        ax.set_xticks(range(len(bands)), bands)
        ax.set(ylabel="R²", ylim=(min(0.0, *(max(-1.0, r["y"]) for r in rows)) - 0.02, 1.02))
        soften(ax)
        ax.legend(frameon=False)
        return finish(figure, name="bands", alt=f"R² by band. {'; '.join(words)}.", rows=rows)


def _add(
    error: dict[tuple[int, str], float], power: dict[tuple[int, str], float], n: int,
    estimate: Tensor, truth: Tensor, there: Tensor, rate_hz: float, bands_hz: Mapping[str, tuple[float, float]] | None,
) -> None:  # fmt: skip
    for band, (e, p) in band_powers(estimate, truth, there, rate_hz=rate_hz, bands_hz=bands_hz).items():
        error[n, band] += float(e)
        power[n, band] += float(p)
    y = truth[there].double()
    error[n, WHOLE] += float((estimate[there].double() - y).square().sum())
    power[n, WHOLE] += float((y - y.mean(-1, keepdim=True)).square().sum())


def _levels(n: int) -> str:
    return counted(n, "level")


def _band_table(found: Reconstruction) -> Table:
    bands = list(next(iter(found.r2.values())))
    return Table(
        caption="R² by band",
        columns=["levels", "bits per second", *bands],
        rows=[
            *([n, round(found.bits_per_s[n], 1), *(scores[b] for b in bands)] for n, scores in found.r2.items()),
            ["share of power", "", *(found.power.get(b, float("nan")) for b in bands)],
        ],
    )


def _use_table(found: Reconstruction, loaded: LoadedModel) -> Table:
    model: Any = loaded.model
    return Table(
        caption=f"Codes of the part '{found.part}'; a perplexity near the size means that all are used equally",
        columns=["codebook", "size", "perplexity", "share of codes used"],
        rows=[
            [k, size, float(p), float(u)]
            for k, (size, p, u) in enumerate(zip(model.n_codes, found.perplexity, found.usage, strict=True), 1)
        ],
    )
