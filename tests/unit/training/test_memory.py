"""Less memory gives the same numbers; the search for a batch size finds the largest that fits."""

import pytest
import torch

from neurofm.objectives import OBJECTIVES
from neurofm.schema.errors import ConfigError
from neurofm.training.fit import fit
from neurofm.training.loggers import read_metrics
from neurofm.training.memory import checkpoint_blocks, find_batch_size, largest_that_fits, step_bytes
from neurofm.training.module import NeuroModule
from neurofm.training.run import RunFolder


def make_module(tiny, steps=4, **changes):
    model = tiny.model(**changes)
    objective = OBJECTIVES.build("masked_region", model, tiny.facts())
    return NeuroModule(model=model, objective=objective, total_steps=steps, seed=3)


def weights(module):
    return torch.cat([p.detach().flatten() for p in module.parameters()])


@pytest.mark.parametrize("limit", [1, 2, 7, 8, 100, 1000])
@pytest.mark.parametrize("fit_up_to", [1, 3, 8, 77, 10**6])
@pytest.mark.parametrize("step", [1, 4])
def test_the_largest_batch_that_fits(limit, fit_up_to, step):
    tried = []

    def fits(n):
        tried.append(n)
        return n <= fit_up_to

    most = max((n for n in range(step, limit + 1, step) if n <= fit_up_to), default=0)
    if most == 0:
        with pytest.raises(ConfigError, match="not even"):
            largest_that_fits(fits, limit=limit, step=step)
        return
    assert largest_that_fits(fits, limit=limit, step=step) == most
    assert max(tried) <= 2 * most, "far too large a batch was tried"
    assert len(tried) <= 25


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens without a GPU")
def test_no_search_without_a_gpu(tiny):
    with pytest.raises(ConfigError, match="give a number"):
        find_batch_size(make_module(tiny), tiny.batch, limit=8)


def test_activation_checkpointing_changes_memory_and_nothing_else(tiny, tmp_path):
    ends, kept = [], []
    for again in (False, True):
        module = make_module(tiny, dropout=0.2, n_layers=3)
        loader = [tiny.batch(4, seed=i) for i in range(4)]
        fit(module=module, loader=loader, run=RunFolder(tmp_path / str(again)), max_steps=4, progress=False,
            activation_checkpointing=again)  # fmt: skip
        ends.append(weights(module))
        kept.append(step_bytes(module.train(), tiny.batch(16))["activations"])
    torch.testing.assert_close(ends[0], ends[1], rtol=0, atol=0)
    assert kept[1] < 0.5 * kept[0]
    with pytest.raises(ConfigError, match="no list of blocks"):
        checkpoint_blocks(torch.nn.Linear(2, 2))


def test_memory_of_weights_is_counted(tiny):
    module = make_module(tiny)
    n = sum(p.numel() for p in module.parameters())
    found = step_bytes(module, tiny.batch())
    assert (found["weights"], found["gradients"], found["moments"]) == (4 * n, 4 * n, 8 * n)
    small, large = (step_bytes(module, tiny.batch(k))["activations"] for k in (8, 32))
    assert 2.5 < large / small < 4.5


@pytest.mark.slow
def test_compiled_and_bfloat16_train(tiny, tmp_path):
    for name, choice in (("compiled", {"compile_model": True}), ("bf16", {"precision": "bf16-mixed"})):
        losses = []
        for choices in ({}, choice):
            run = RunFolder(tmp_path / name / str(bool(choices)))
            loader = [tiny.batch(4, seed=i) for i in range(6)]
            fit(
                module=make_module(tiny, 6), loader=loader, run=run, max_steps=6, log_every=1, progress=False, **choices
            )
            losses.append([r["train/loss"] for r in read_metrics(run.metrics_path)])
        assert losses[1] == pytest.approx(losses[0], rel=0.03 if name == "bf16" else 1e-4)
        assert losses[0] != losses[1] or name == "compiled"
