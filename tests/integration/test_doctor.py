"""`neurofm doctor`: a sound training passes every check; each fault is found, and the status counts them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from neurofm.cli.main import main
from neurofm.data.splits.spans import Span
from neurofm.schema.errors import NeurofmError
from neurofm.training import checkup

SOURCE = dict(n_subjects=3, n_channels=4, n_sources=2, duration_s=120, rate_hz=50, noise=0.3, n_trials=0)
ASK = [
    "data=simulated", "held_out=02", "task=windows_1s", "objective=masked_region", "objective.hide_fraction=[0.1,0.3]",
    "model.patch_samples=10", "model.dim=16", "model.n_layers=1", "model.ffn_dim=16", "model.dropout=0.1",
    "model.causal=false", "+model.mask_token=true", "batch_size=4",
]  # fmt: skip
CHECKS = (
    "configuration", "device", "logger", "assembly", "run folder", "checksums", "split", "one batch", "memory", "loader",
    "ranks", "resume",
)  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder, before = tmp_path_factory.mktemp("doctor"), Path.cwd()
    os.chdir(folder)
    try:
        assert (
            main(["prep", "dataset=simulated", "dask=none", *(f"dataset.source.{k}={v}" for k, v in SOURCE.items())])
            == 0
        )
        yield folder
    finally:
        os.chdir(before)


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch):
    whole = checkup.check_speed
    monkeypatch.setattr(checkup, "check_speed", lambda parts: whole(parts, seconds=0.05))


def doctor(capsys, *words):
    capsys.readouterr()
    status = main(["doctor", *ASK, *words])
    said = capsys.readouterr().out
    lines = {line[5:19].strip(): line for line in said.splitlines() if line[:4] in ("ok  ", "FAIL")}
    assert status == sum(line.startswith("FAIL") for line in lines.values()), said
    return lines


def failed(lines):
    return {name: line for name, line in lines.items() if line.startswith("FAIL")}


def test_a_sound_training_passes_and_leaves_nothing_behind(place, capsys):
    lines = doctor(capsys)
    assert tuple(lines) == CHECKS
    assert not failed(lines), failed(lines)
    assert not Path("runs/simulated").exists()
    assert "1 × 39 steps" in lines["ranks"] or "steps per epoch of 4 windows" in lines["ranks"]
    assert "trainable and 0 frozen" in lines["one batch"]


@pytest.mark.parametrize(
    ("words", "check", "sentence"),
    [
        (["+trainer.max_step=3"], "configuration", "did you mean 'max_steps'"),
        (["data.path=elsewhere"], "configuration", "neurofm prep dataset=simulated"),
        (["model.patch_samples=7"], "assembly", "not a multiple of the patch"),
        (["logger=wandb", "logger.wandb_mode=online"], "logger", "wandb login"),
        (["trainer=gpu"], "device", "trainer=cpu"),
        (["batch_size=auto"], "assembly", "give a number"),
        (["batch_size=5", "trainer.devices=2"], "assembly", "multiple of the 2 ranks"),
        (["runs=/proc"], "run folder", "cannot be written"),
    ],
)
def test_each_fault_is_told_with_what_to_do(place, capsys, monkeypatch, words, check, sentence):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    found = failed(doctor(capsys, *words))
    assert check in found
    assert sentence in found[check]


def test_a_damaged_shard_a_full_folder_and_a_leak(place, capsys, monkeypatch):
    shard = next(Path("shards/simulated/shards").glob("*.tar"))
    whole = shard.read_bytes()
    Path("taken").mkdir(exist_ok=True)
    (Path("taken") / "run").mkdir(exist_ok=True)
    (Path("taken") / "run" / "config.yaml").write_text("a: 1")
    try:
        shard.write_bytes(whole[:-1] + b"x")
        lines = doctor(capsys, "run_dir=taken/run")
    finally:
        shard.write_bytes(whole)
    assert set(failed(lines)) == {"run folder", "checksums"}
    assert shard.name in lines["checksums"]
    assert "overwrite=true" in lines["run folder"]

    original = checkup.check_split

    def leaking(parts, rule):
        first = parts.corpus.split[checkup.PART][0]
        parts.corpus.split.parts["test"].append(Span(first.recording_id, first.start_s + 1, first.start_s + 2))
        return original(parts, rule)

    monkeypatch.setattr(checkup, "check_split", leaking)
    found = failed(doctor(capsys))
    assert set(found) == {"split"}
    assert "leaks" in found["split"]


def test_what_is_not_finite_and_what_is_not_saved_is_found(place, capsys, monkeypatch):
    from neurofm.objectives.masked_region import MaskedRegion

    right = MaskedRegion.forward

    def forgetful(self, model, batch, generator=None):
        """Has a state that no checkpoint knows."""
        self.calls = getattr(self, "calls", 0) + 1
        loss = right(self, model, batch, generator)
        loss.total = loss.total * self.calls
        return loss

    monkeypatch.setattr(MaskedRegion, "forward", forgetful)
    assert set(failed(doctor(capsys))) == {"resume"}

    def broken(self, model, batch, generator=None):
        loss = right(self, model, batch, generator)
        loss.total = loss.total * float("nan")
        return loss

    monkeypatch.setattr(MaskedRegion, "forward", broken)
    found = failed(doctor(capsys))
    assert set(found) == {"one batch"}
    assert "data's scale" in found["one batch"]


def test_a_loader_that_is_too_slow_is_found(place, monkeypatch):
    """The model's step is stood in for, since both rates are those of a machine that others use."""
    rates = iter([100.0, 10.0])
    monkeypatch.setattr(checkup, "_rate", lambda step, seconds: next(rates))

    class Parts:
        loader = ([1, 2],)

    monkeypatch.setattr(checkup, "_on_device", lambda parts: (type("M", (), {"train": lambda self: self})(), [1]))
    undecorated = checkup.check_speed
    with pytest.raises(NeurofmError, match=r"loader 10, model 100 .* raise data\.n_workers"):
        undecorated(Parts())
