"""The report of a BrainBERT run: five spectrograms of one clip, every drawn number kept."""

import torch

from neurofm.models import MODELS
from neurofm.objectives import OBJECTIVES
from neurofm.report.spectrogram import resolutions, spectrogram_figure
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.facts import Facts


class Loaded:
    """What the report reads of a loaded run."""

    def __init__(self, model, objective):
        self.model, self.objective = model, objective


def test_panels_show_the_clip_at_both_resolutions_and_what_was_hidden():
    facts = Facts(rate_hz=256.0, window_s=1.0, max_channels=1)
    for choices in ({}, {"spectrogram": "superlet", "superlet_hz": (5.0, 90.0, 12)}):
        torch.manual_seed(0)
        model = MODELS.build(
            "brainbert",
            facts,
            window_samples=32,
            n_bins=12,
            hop_samples=8,
            trim_frames=2,
            dim=16,
            n_layers=1,
            n_heads=2,
            ffn_dim=16,
            **choices,
        )
        objective = OBJECTIVES.build("masked_spectrogram", model, facts)
        batch = NeuralBatch(
            signal=torch.randn(1, 1, 256), channel_mask=torch.ones(1, 1, dtype=torch.bool),
            time_mask=torch.ones(1, 256, dtype=torch.bool), rate_hz=256.0,
        )  # fmt: skip
        resolved = resolutions(Loaded(model, objective), batch, 0)
        assert set(resolved) == {"short-time Fourier transform", "superlets"}
        assert resolved["superlets"].shape == (32, 40)
        truth = model.spectrogram(batch)
        hidden = objective.draw(truth, batch, torch.Generator().manual_seed(3))
        shown = {"clip": truth[0, 0], "hidden": hidden.shown[0, 0].masked_fill(hidden.label[0, 0], torch.nan)}
        drawing = spectrogram_figure(resolved, shown)
        assert drawing.svg.startswith("<svg")
        assert len(drawing.rows) == sum(v.numel() for v in [*resolved.values(), *shown.values()])
        assert all(name in drawing.alt for name in ("superlets", "hidden"))
