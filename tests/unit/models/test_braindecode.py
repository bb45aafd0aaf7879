"""The adapter, against a stand-in for the package: what it is given, what it refuses, what it says when it is missing."""

import sys
import types

import pytest
import torch
from torch import nn

from neurofm.models import MODELS
from neurofm.objectives import OBJECTIVES
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import ConfigError
from neurofm.schema.facts import Facts

FACTS = Facts(rate_hz=50.0, window_s=0.4, max_channels=3, channels=("a", "b", "c"), classes=("x", "y"))


class EEGNetv4(nn.Module):
    """Stand-in: linear over all samples; remembers what it was built from."""

    def __init__(self, n_chans, n_outputs, n_times, sfreq, drop_prob=0.5):
        super().__init__()
        self.given = dict(n_chans=n_chans, n_outputs=n_outputs, n_times=n_times, sfreq=sfreq, drop_prob=drop_prob)
        self.linear = nn.Linear(n_chans * n_times, n_outputs)

    def forward(self, x):
        return self.linear(x.flatten(1))


class Dense(nn.Module):
    """Stand-in whose output has a time axis."""

    def __init__(self, n_chans, n_outputs, n_times, sfreq):
        super().__init__()

    def forward(self, x):
        return x


@pytest.fixture
def installed(monkeypatch):
    package, models = types.ModuleType("braindecode"), types.ModuleType("braindecode.models")
    models.EEGNetv4, models.Dense, models.BrainModule, package.models = EEGNetv4, Dense, Dense, models
    monkeypatch.setitem(sys.modules, "braindecode", package)
    monkeypatch.setitem(sys.modules, "braindecode.models", models)


def batch(n_channels=3, valid=3):
    mask = torch.arange(n_channels).expand(4, -1) < valid
    g = torch.Generator().manual_seed(0)
    signal = torch.randn(4, 3, 20, generator=g)[:, :valid]
    return NeuralBatch(
        signal=nn.functional.pad(signal, (0, 0, 0, n_channels - valid), value=9.0), channel_mask=mask,
        time_mask=torch.ones(4, 20, dtype=torch.bool), rate_hz=50.0, target=torch.tensor([0, 1, 0, 1]),
    )  # fmt: skip


def test_it_is_built_from_the_facts_and_classifies(installed):
    model = MODELS.build("braindecode", FACTS, model="EEGNetv4", dim=8, model_choices={"drop_prob": 0.1})
    assert model.encoder.given == dict(n_chans=3, n_outputs=8, n_times=20, sfreq=50.0, drop_prob=0.1)
    encoded = model(batch())
    assert encoded.tokens.shape == (4, 1, 8)
    assert encoded.time_s[0, 0] == pytest.approx(0.2)
    assert torch.equal(model.pool(encoded), model.encoder(batch().signal))
    objective = OBJECTIVES.build("supervised", model, FACTS)
    nn.init.normal_(objective.head.weight)
    objective(model, batch(), None).total.backward()
    assert model.encoder.linear.weight.grad.abs().sum() > 0


def test_padding_changes_nothing(installed):
    model = MODELS.build("braindecode", FACTS, model="EEGNetv4", dim=8)
    alone, padded = model(batch(2, valid=2)).tokens, model(batch(5, valid=2)).tokens
    assert torch.equal(alone, padded)


@pytest.mark.parametrize(
    ("choices", "sentence"),
    [
        ({"model": "EEGNetv5"}, "did you mean 'EEGNetv4'"),
        ({"model": "BrainModule"}, "allow_noncommercial"),
        ({"model": "EEGNetv4", "model_choices": {"depth": 3}}, "EEGNetv4 cannot be built for 3 channels.*depth"),
    ],
)
def test_wrong_choices(installed, choices, sentence):
    with pytest.raises(ConfigError, match=sentence):
        MODELS.build("braindecode", FACTS, **choices)


def test_models_that_give_no_vector_are_refused(installed):
    model = MODELS.build("braindecode", FACTS, model="Dense", dim=8)
    with pytest.raises(ConfigError, match="not one vector of 8"):
        model(batch())
    with pytest.raises(ConfigError, match="built for 3 channels and 20 samples"):
        model(batch(5, valid=3).with_signal(torch.zeros(4, 5, 19)))


class Breaks:
    """A finder under which the import of one module fails."""

    def __init__(self, name, error):
        self.name, self.error = name, error

    def find_spec(self, name, path=None, target=None):
        if name == self.name:
            raise self.error
        return None


@pytest.mark.parametrize(
    ("module", "error", "sentence"),
    [
        ("braindecode", ModuleNotFoundError("No module named 'braindecode'", name="braindecode"), r"neurofm\[braindecode\]"),
        (
            "braindecode.models", OSError("libtorch_cuda.so: cannot open shared object file"),
            r"libtorch_cuda.*imports torchaudio, which must be the build that belongs to torch",
        ),
        (
            "braindecode.models", ModuleNotFoundError("No module named 'torchaudio'", name="torchaudio"),
            "needs the package torchaudio.*build that belongs to torch",
        ),
        ("braindecode.models", ImportError("cannot import name 'x'"), "cannot be imported"),
    ],
)  # fmt: skip
def test_what_is_said_where_it_cannot_be_imported(monkeypatch, module, error, sentence):
    for name in [n for n in sys.modules if n.partition(".")[0] == "braindecode"]:
        monkeypatch.delitem(sys.modules, name)
    if module != "braindecode":
        package = types.ModuleType("braindecode")
        package.__path__ = []
        monkeypatch.setitem(sys.modules, "braindecode", package)
    monkeypatch.setattr(sys, "meta_path", [Breaks(module, error), *sys.meta_path])
    with pytest.raises(ConfigError, match=sentence):
        MODELS.build("braindecode", FACTS, model="EEGNetv4")


def test_nothing_is_imported_before_it_is_named():
    import subprocess

    code = "import sys, neurofm.models.braindecode; assert 'torchaudio' not in sys.modules and 'braindecode' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
