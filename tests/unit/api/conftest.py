"""A tiny untrained model of the simulated corpus, saved as `train` would."""

import numpy as np
import pytest
import torch

from data_prep.sources.simulated import Simulated
from neurofm.data.transforms.base import TRANSFORMS
from neurofm.data.transforms.standardize import Standardize
from neurofm.hub.save import save_model
from neurofm.models import MODELS
from neurofm.objectives import OBJECTIVES
from neurofm.schema.facts import Facts

NAMES = tuple(f"sim:{i:02d}" for i in range(6))
CHOICES = dict(
    patch_samples=10,
    dim=16,
    n_layers=1,
    n_heads=2,
    ffn_dim=16,
    causal=False,
    channel_embedding=True,
    mask_token=True,
)


@pytest.fixture
def recordings():
    """Person → resting recording of 20 s at 50 Hz, 6 channels."""
    source = Simulated(n_subjects=3, n_channels=6, n_sources=3, duration_s=20, rate_hz=50)
    return {i.subject: i.load() for i in source.list()}


@pytest.fixture
def signal(recordings):
    """The second person's signal, shape (channel, time)."""
    return np.array(recordings["02"].signal.read(0, 0, 1000)).T


@pytest.fixture
def saved(tmp_path, recordings):
    """Save a model: stages, classes, task and transforms can be chosen."""

    def save(*, stages=(), classes=(), task="sliding", transform="standardize", n_channels=6):
        torch.manual_seed(0)
        facts = Facts(
            rate_hz=50.0, window_s=1.0, max_channels=n_channels, channels=NAMES[:n_channels], subjects=("01",),
            classes=classes,
        )  # fmt: skip
        model = MODELS.build("mvpformer", facts, **CHOICES)
        # tables start near zero, where channels hardly differ
        for p in model.parameters():
            torch.nn.init.normal_(p, std=0.3)
        objective = OBJECTIVES.build("supervised" if classes else "masked_region", model, facts)
        transforms = []
        if transform == "standardize":
            first = Standardize()
            r = recordings["01"]
            known = np.array(r.signal.read(0, 0, 500))
            first.set_state({"recordings": {r.recording_id: {"mean": known.mean(0), "sd": known.std(0)}}})
            transforms = [first.to_json()]
        elif transform is not None:
            transforms = [TRANSFORMS.build(transform).to_json()]
        return save_model(
            tmp_path / "run" / "model", model=model, objective=objective, model_name="mvpformer",
            model_choices=CHOICES, objective_name="supervised" if classes else "masked_region", objective_choices={},
            facts=facts, transforms=transforms, prep={"stages": list(stages), "source": {"name": "simulated"}},
            provenance={"task": {"windows": task, "window_s": 1.0}},
        )  # fmt: skip

    return save
