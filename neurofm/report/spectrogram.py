"""What a network makes of spectrograms: the clip by STFT and by superlets, what was hidden of it, and what was restored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neurofm.hub.load import LoadedModel, load_model
from neurofm.models.base import Backbone, offers
from neurofm.nn.spectra import standardised, stft_magnitude
from neurofm.nn.superlets import Superlets
from neurofm.objectives.scores import r_squared
from neurofm.report.canvas import finish, new_figure, row, style
from neurofm.report.content import Drawing, Report, Section, Table
from neurofm.report.html import write_report
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import ConfigError
from neurofm.training.reopen import corpus_of

# colours from this many standard deviations below to above a bin's mean
LIMIT_SD = 3.0
# bins and orders of the superlet panel
N_FREQUENCIES, ORDER = 40, (3.0, 30.0)


@torch.inference_mode()
def write_spectrogram_report(run: str | Path, *, batch_size: int = 16) -> Path:
    """Draw the first clip of a run's validation part and score all of it; write ``plots/spectrogram/report.html``."""
    loaded = load_model(run)
    corpus = corpus_of(loaded)
    part = "validation" if corpus.split.parts.get("validation") else "pretrain"
    loader = corpus.loader(part, loaded.facts, batch_size=batch_size, seed=0, training=False)
    model: Any = loaded.model
    objective: Any = loaded.objective
    if not offers(model, Backbone.spectrogram):
        raise ConfigError(
            f"{run}: its model reads no spectrograms; this report is for runs of objective=masked_spectrogram"
        )
    generator = torch.Generator().manual_seed(0)
    scores, drawing = [], None
    for batch in loader:
        truth = model.spectrogram(batch)
        hidden = objective.draw(truth, batch, generator)
        restored = objective.estimate(model, batch, hidden.shown)
        label = hidden.label & batch.channel_mask[:, :, None, None]
        scores.append((float(r_squared(restored, truth, label)), int(label.sum())))
        if drawing is None and bool(batch.channel_mask[0].any()):
            channel = int(batch.channel_mask[0].nonzero()[0])
            shown = {
                "the clip, as the network reads it": truth[0, channel],
                "with spans hidden": hidden.shown[0, channel].masked_fill(hidden.label[0, channel], torch.nan),
                "restored": restored[0, channel],
            }
            drawing = spectrogram_figure(resolutions(loaded, batch, channel), shown)
    assert drawing is not None
    weights = np.array([n for _, n in scores], dtype=float)
    r2 = float(np.average([s for s, _ in scores], weights=np.maximum(weights, 1e-9)))
    card = loaded.card
    name, datasets = card["model"]["name"], ", ".join(d["id"] for d in card["provenance"]["datasets"])
    lead = (
        f"First good channel of the first window of the part '{part}'. Superlets are sharper than the short-time transform in "
        "time and in frequency at once; which of the two the network reads is a choice of the run. Blank: hidden spans."
    )
    return write_report(
        Path(run) / "plots" / "spectrogram",
        Report(
            title=f"Spectrograms: {name} on {datasets}",
            subtitle=f"R² of hidden cells {r2:.3f} over the part '{part}'",
            claims=[],
            sections=[
                Section(
                    title="A clip", lead=lead, drawings=[(drawing, "In standard deviations of each frequency's bin.")]
                ),
                Section(
                    title="Hidden cells",
                    tables=[
                        Table(
                            caption="Mean over batches",
                            columns=["part", "hidden cells", "R²"],
                            rows=[[part, int(weights.sum()), r2]],
                        )
                    ],
                ),
            ],
            scores=[{"part": part, "r2": r2, "n_hidden": int(weights.sum())}],
            looks={},
            facts={"weights": card["weights"]["sha256"], "split": card["provenance"]["split"]["hash"]},
            leak_reason="",
        ),
    )


def resolutions(loaded: LoadedModel, batch: NeuralBatch, channel: int) -> dict[str, Tensor]:
    """Return one clip by STFT and by superlets over the same range of frequencies, standardised, shape (frame, bin) each."""
    model: Any = loaded.model
    x = batch.signal[0, channel].double()
    rate = batch.rate_hz
    window = min(model.window_samples, len(x) // 4)
    top_hz = min(model.n_bins * rate / model.window_samples, rate / 2)
    if model.superlets is not None:
        top_hz = model.top_hz
    n_bins = max(2, min(window // 2 + 1, round(top_hz * window / rate)))
    stft = stft_magnitude(x, window_samples=window, hop_samples=min(model.hop_samples, window), n_bins=n_bins)
    low = top_hz / N_FREQUENCIES
    superlets = Superlets(
        rate_hz=rate, n_samples=len(x), frequencies_hz=np.linspace(low, top_hz, N_FREQUENCIES).tolist(), order=ORDER,
        hop_samples=model.hop_samples,
    )  # fmt: skip
    return {"short-time Fourier transform": standardised(stft), "superlets": standardised(superlets(x))}


def spectrogram_figure(resolved: dict[str, Tensor], shown: dict[str, Tensor]) -> Drawing:
    """One panel per spectrogram, time to the right and frequency up."""
    panels = {**resolved, **shown}
    rows = []
    with style():
        figure = new_figure(8.4, 1.9 * len(panels))
        axes = figure.subplots(len(panels), 1, squeeze=False).ravel()
        for ax, (title, values) in zip(axes, panels.items(), strict=True):
            z = values.double().numpy()
            ax.imshow(
                z.T,
                origin="lower",
                aspect="auto",
                cmap="RdBu_r",
                vmin=-LIMIT_SD,
                vmax=LIMIT_SD,
                interpolation="nearest",
            )
            ax.set_title(title, fontsize=8.5, fontweight="normal")
            ax.set(ylabel="bin")
            for side in ("top", "right"):
                ax.spines[side].set_visible(False)
            rows += [
                row("spectrogram", panel=title, series=f"bin {f}", x=n, x_label="frame", y=z[n, f], y_label="SD")
                for n in range(z.shape[0])
                for f in range(z.shape[1])
            ]
        axes[-1].set(xlabel="frame")
        return finish(figure, name="spectrogram", alt=f"Spectrograms of one clip: {'; '.join(panels)}.", rows=rows)
