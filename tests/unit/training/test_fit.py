import logging
import math

import pytest
import torch

from neurofm.adapt.rows import select
from neurofm.models.base import Backbone
from neurofm.objectives import OBJECTIVES
from neurofm.objectives.base import Loss, Objective
from neurofm.schema.errors import ConfigError, NeurofmError
from neurofm.training.fit import fit
from neurofm.training.loggers import read_metrics
from neurofm.training.module import NeuroModule
from neurofm.training.run import RunFolder
from neurofm.training.throughput import skipped_by


class Loader:
    """Eleven batches per epoch in an order of its own for each epoch; knows where it stands."""

    def __init__(self, tiny, n=11, stop_after=None, spoil=()):
        self.batches = [tiny.batch(4, seed=i) for i in range(n)]
        self.epoch = self.cursor = self.served = 0
        self.stop_after, self.spoil = stop_after, spoil

    def __len__(self):
        return len(self.batches)

    def state_dict(self):
        return {"epoch": self.epoch, "cursor": self.cursor}

    def load_state_dict(self, state):
        self.epoch, self.cursor = state["epoch"], state["cursor"]

    def __iter__(self):
        order = torch.randperm(len(self.batches), generator=torch.Generator().manual_seed(self.epoch))
        while self.cursor < len(order):
            if self.served == self.stop_after:
                raise KeyboardInterrupt
            batch = self.batches[order[self.cursor]]
            if self.served in self.spoil:
                batch = batch.with_signal(batch.signal * math.nan)
            self.cursor += 1
            self.served += 1
            yield batch
        self.epoch, self.cursor = self.epoch + 1, 0


def make_module(tiny, total_steps, **changes):
    model = tiny.model(dropout=0.2)
    objective = OBJECTIVES.build("masked_region", model, tiny.facts())
    return NeuroModule(model=model, objective=objective, total_steps=total_steps, warmup_steps=2, seed=3, **changes)


def weights(module):
    return torch.cat([p.detach().flatten() for p in module.parameters()])


def test_a_run_is_a_complete_account(tiny, tmp_path, capfd):
    run = RunFolder(tmp_path / "run")
    module = make_module(tiny, 25)
    before = weights(module).clone()
    metrics = fit(
        module=module, loader=Loader(tiny), validation_loader=Loader(tiny, 3), run=run, max_steps=25, log_every=5
    )
    assert not torch.equal(before, weights(module))
    rows = read_metrics(run.metrics_path)
    assert [r["step"] for r in rows if "train/loss" in r] == [5, 10, 15, 20, 25]
    columns = {key for row in rows for key in row}
    assert columns >= {"train/loss", "train/r2", "train/gradient_norm", "val/loss", "val/r2", "lr"}
    assert columns >= {f"speed/{x}" for x in ("windows_per_s", "tokens_per_s", "data_wait_percent", "padding_percent")}
    for name in ("finished.json", "plots/training.png", "checkpoints/last.ckpt", "checkpoints/best.ckpt"):
        assert (run.path / name).stat().st_size
    assert not (run.path / "lightning_logs").exists()
    assert metrics["best/val/loss"] == pytest.approx(min(r["val/loss"] for r in rows if "val/loss" in r))
    assert metrics["steps"] == 25
    # the last checkpoint holds the weights the run ended with, and loads safely
    state = torch.load(run.last_checkpoint, weights_only=True)
    assert torch.equal(state["state_dict"]["model.norm.weight"], module.model.norm.weight)
    assert state["global_step"] == 25
    said = capfd.readouterr()
    assert "train 25/25" in said.err
    for advert in ("litlogger", "GPU available", "Tip", "num_workers", "Warning"):
        assert advert not in said.out + said.err
    assert logging.getLogger("pytorch_lightning").level != logging.ERROR


def test_resume_in_mid_epoch_gives_the_same_bits(tiny, tmp_path):
    """Stopped in the second epoch between two checkpoints, the work since the last one is done again, alike."""
    whole = make_module(tiny, 30)
    straight = RunFolder(tmp_path / "straight")
    fit(module=whole, loader=Loader(tiny), run=straight, max_steps=30, checkpoint_every=5, log_every=2, progress=False)

    broken = make_module(tiny, 30)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        fit(module=broken, loader=Loader(tiny, stop_after=18), run=RunFolder(tmp_path / "run"), max_steps=30,
            checkpoint_every=5, log_every=2, progress=False)  # fmt: skip
    run = RunFolder(tmp_path / "run", resume=True)
    assert run.resumed
    assert not (run.path / "finished.json").exists()
    second = make_module(tiny, 30)
    fit(module=second, loader=Loader(tiny), run=run, max_steps=30, checkpoint_every=5, log_every=2, progress=False)
    assert torch.equal(weights(second), weights(whole))
    kept = ("step", "train/loss", "train/gradient_norm", "lr")
    a, b = ([{k: r[k] for k in kept} for r in read_metrics(x.metrics_path)] for x in (straight, run))
    assert a == b
    assert (run.path / "finished.json").exists()


def test_average_of_weights_is_what_the_module_ends_with(tiny, tmp_path):
    decay, steps = 0.8, 8
    module = make_module(tiny, steps)
    run = RunFolder(tmp_path / "ema")
    fit(
        module=module,
        loader=Loader(tiny),
        run=run,
        max_steps=steps,
        ema_decay=decay,
        checkpoint_every=1,
        progress=False,
    )
    # oracle: the raw weights of every step of the same run without averaging, averaged by hand
    raw = make_module(tiny, steps)
    seen = []
    step = raw.on_train_batch_end
    raw.on_train_batch_end = lambda *a, **k: (step(*a, **k), seen.append(weights(raw).double().clone()))[0]
    fit(module=raw, loader=Loader(tiny), run=RunFolder(tmp_path / "raw"), max_steps=steps, progress=False)
    average = seen[0]
    for w in seen[1:]:
        average = decay * average + (1 - decay) * w
    torch.testing.assert_close(weights(module).double(), average, rtol=1e-4, atol=1e-6)
    assert not torch.allclose(weights(module), weights(raw))


def test_steps_that_are_not_finite_are_skipped_and_counted(tiny, tmp_path):
    module = make_module(tiny, 10)
    run = RunFolder(tmp_path / "run")
    metrics = fit(module=module, loader=Loader(tiny, spoil=(3, 4)), run=run, max_steps=10, log_every=1, progress=False)
    assert metrics["train/skipped_steps"] == 2
    assert torch.isfinite(weights(module)).all()
    with pytest.raises(NeurofmError, match="5 steps in a row"):
        fit(module=make_module(tiny, 30), loader=Loader(tiny, spoil=range(2, 30)), run=RunFolder(tmp_path / "bad"),
            max_steps=30, guard_patience=5, progress=False)  # fmt: skip
    assert not (tmp_path / "bad" / "finished.json").exists()


def test_a_skipped_step_moves_nothing(tiny, tmp_path):
    snapshots = []
    module = make_module(tiny, 6)
    module.on_train_batch_end = lambda *a, **k: snapshots.append(weights(module).clone())
    fit(module=module, loader=Loader(tiny, spoil=(3,)), run=RunFolder(tmp_path / "run"), max_steps=6, progress=False)
    assert torch.equal(snapshots[2], snapshots[3])
    assert not torch.equal(snapshots[3], snapshots[4])


def test_accumulation_equals_the_larger_batch(tiny, tmp_path):
    """Two batches of four windows per step move the weights as one batch of eight does."""
    eight = tiny.batch(8)
    halves = [select(eight, torch.arange(4)), select(eight, torch.arange(4, 8))]
    ends = []
    for name, loader, accumulate in (("one", [eight], 1), ("two", halves, 2)):
        model = tiny.model()
        objective = OBJECTIVES.build("supervised", model, tiny.facts())
        module = NeuroModule(model=model, objective=objective, total_steps=3, lr_peak=1e-2)
        fit(
            module=module,
            loader=loader,
            run=RunFolder(tmp_path / name),
            max_steps=3,
            accumulate=accumulate,
            progress=False,
        )
        ends.append(weights(module))
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-3, atol=1e-5)


def test_a_missing_field_is_named(tiny, tmp_path):
    model = tiny.model()
    objective = OBJECTIVES.build("supervised", model, tiny.facts())
    module = NeuroModule(model=model, objective=objective, total_steps=1)
    batch = tiny.batch()
    batch.target = None
    with pytest.raises(ConfigError, match=r"batch\.target"):
        fit(module=module, loader=[batch], run=RunFolder(tmp_path / "r"), max_steps=1, progress=False)


@pytest.mark.parametrize(
    ("choice", "sentence"),
    [
        ({"logger": "wand"}, "did you mean 'wandb'"),
        ({"ema_decay": 1.5}, "ema_decay=1.5"),
        ({"max_steps": -1}, "max_steps=-1"),
    ],
)
def test_wrong_choices(tiny, tmp_path, choice, sentence):
    module, run = make_module(tiny, 2), RunFolder(tmp_path / "r")
    with pytest.raises(ConfigError, match=sentence):
        fit(module=module, loader=[], run=run, **({"max_steps": 1} | choice))


def test_a_throughput_figure_is_right(tiny, tmp_path):
    run = RunFolder(tmp_path / "run")
    loader = [tiny.batch(4, n_valid=[5, 5, 5, 1])] * 4
    fit(module=make_module(tiny, 4), loader=loader, run=run, max_steps=4, log_every=4, progress=False)
    row = read_metrics(run.metrics_path)[-1]
    assert row["speed/padding_percent"] == pytest.approx(100 * 4 / 20)
    # 16 valid channels of 4 windows, 4 patches each
    assert row["speed/tokens_per_s"] / row["speed/windows_per_s"] == pytest.approx(16 * 4 / 4)
    assert 0 <= row["speed/data_wait_percent"] <= 100


def test_a_row_is_the_mean_of_its_steps(tiny, tmp_path):
    rows = {}
    for every in (1, 4):
        run = RunFolder(tmp_path / str(every))
        fit(module=make_module(tiny, 8), loader=Loader(tiny), run=run, max_steps=8, log_every=every, progress=False)
        rows[every] = [r["train/loss"] for r in read_metrics(run.metrics_path)]
    want = [sum(rows[1][:4]) / 4, sum(rows[1][4:]) / 4]
    assert rows[4] == pytest.approx(want, rel=1e-5)


def test_operations_are_counted_as_by_hand(tiny, tmp_path):
    """A model that is one linear map: 2·rows·in·out forward, and twice that again backward."""

    class Line(Backbone):
        def __init__(self):
            super().__init__()
            self.first, self.last = torch.nn.Linear(12, 64), torch.nn.Linear(64, 8)

        def forward(self, batch):
            return self.last(self.first(batch.signal))

    class Sum(Objective):
        def forward(self, model, batch, generator):
            return Loss(model(batch).square().mean())

    module = NeuroModule(model=Line(), objective=Sum(), total_steps=3)
    run = RunFolder(tmp_path / "run")
    fit(module=module, loader=[tiny.batch(4)] * 3, run=run, max_steps=3, log_every=3, progress=False)
    row = read_metrics(run.metrics_path)[-1]
    rows = 5  # channels of a window
    want = 3 * rows * 2 * (12 * 64 + 64 * 8)
    assert row["speed/flops_per_s"] / row["speed/windows_per_s"] == pytest.approx(want)
    assert 0 < row["speed/peak_percent"] < 100


def test_windows_that_were_left_out_are_counted(tiny, tmp_path):
    loader = Loader(tiny)
    loader.skipped = ["a", "b"]
    assert skipped_by(loader) == 2
    loader.n_skipped = 3
    run = RunFolder(tmp_path / "run")
    fit(module=make_module(tiny, 3), loader=loader, run=run, max_steps=3, log_every=3, progress=False)
    assert read_metrics(run.metrics_path)[-1]["data/skipped_windows"] == 3
    assert skipped_by([]) is None


def test_no_step_leaves_the_weights_and_finishes_the_run(tiny, tmp_path):
    module, run = make_module(tiny, 2), RunFolder(tmp_path / "r")
    before = {n: p.detach().clone() for n, p in module.named_parameters()}
    assert fit(module=module, loader=[], run=run, max_steps=0, progress=False)["steps"] == 0
    assert all(torch.equal(p, before[n]) for n, p in module.named_parameters())
    assert (run.path / "finished.json").exists()
