from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml
from torch import nn

from neurofm.adapt import ADAPT
from neurofm.adapt.finetune import finetune
from neurofm.adapt.rows import join, select, stratified_tail, tail_in_time
from neurofm.hub.load import LoadedModel, load_model
from neurofm.hub.resave import save_loaded
from neurofm.models.base import Backbone
from neurofm.objectives import OBJECTIVES
from neurofm.objectives.base import Objective
from neurofm.schema.errors import ConfigError, DataError

SUPERVISED = {"name": "supervised"}


@pytest.fixture
def loaded(tiny):
    model = tiny.model()
    objective = OBJECTIVES.build("masked_region", model, tiny.facts())
    card = {
        "schema_version": 1,
        "model": {"name": "mvpformer", "choices": tiny.choices},
        "objective": {"name": "masked_region", "choices": {}},
        "facts": tiny.facts().to_json(),
        "transforms": [],
        "provenance": {},
    }
    return LoadedModel(model.eval(), objective.eval(), tiny.facts(), [], card)


def weights(x):
    return torch.cat([p.detach().flatten() for m in (x.model, x.objective) for p in m.parameters()])


# those that need a certain model or objective, or build another one, have tests of their own
ANY_MODEL = sorted(set(ADAPT.names()) - {"subject_layer", "cnn", "reset", "in_context", "unit_embedding"})


@pytest.mark.parametrize("name", ANY_MODEL)
@pytest.mark.parametrize("objective", [None, SUPERVISED], ids=["same task", "new task"])
def test_every_strategy_moves_what_it_says_and_leaves_the_original(loaded, tiny, tmp_path, name, objective):
    before = weights(loaded).clone()
    result = finetune(loaded, tiny.batch(16), strategy=name, objective=objective, steps=6, lr_peak=1e-2, tail="none")
    assert torch.equal(weights(loaded), before)
    new = result.loaded
    moved = {n for n, p in new.model.named_parameters() if not torch.equal(p, loaded.model.state_dict()[n])}
    names = dict(loaded.model.named_parameters())
    attention = {f"blocks.{i}.attention" for i in range(2)}
    expected = {
        "probe": set(),
        "lora": {f"{a}.{w}.weight" for a in attention for w in ("query", "key_value")},
        "bitfit": {f"{a}.bias" for a in attention} | {"tokenizer.embed.bias"},
        "norm": {n for n in names if "norm" in n},
    }
    if name in expected:
        assert moved == expected[name]
    else:
        # the mask token is not used by classification; nothing else is idle
        assert moved >= set(names) - {"mask_token"}
    # the outcome is a plain model again
    assert set(new.model.state_dict()) == set(loaded.model.state_dict())
    save_loaded(tmp_path / "m", new)
    again = load_model(tmp_path / "m")
    batch = tiny.batch(3, seed=9)
    assert torch.equal(again.objective.predict(again.model, batch), new.objective.predict(new.model, batch))


def test_lora_touches_values_not_keys_and_merges_exactly(loaded, tiny):
    adapted = ADAPT.build("lora", loaded, None, None, rank=2, alpha=4.0)
    batch = tiny.batch(4)
    with torch.no_grad():
        start = adapted.loaded.model(batch).tokens
        torch.testing.assert_close(start, loaded.model(batch).tokens)  # zero at first
        for n, p in adapted.loaded.model.named_parameters():
            if n.endswith("up"):
                p.normal_()
        changed = adapted.loaded.model(batch).tokens
        merged = adapted.merged()
        torch.testing.assert_close(merged.model(batch).tokens, changed)
    old, new = (x.model.blocks[0].attention.key_value.weight for x in (loaded, merged))
    half = len(old) // 2
    assert torch.equal(old[:half], new[:half])
    change = new[half:] - old[half:]
    assert torch.linalg.matrix_rank(change.detach(), atol=1e-5) == 2
    p = adapted.loaded.model.blocks[0].attention.key_value.parametrizations["weight"][0]
    torch.testing.assert_close(change, 2.0 * p.up @ p.down, rtol=1e-4, atol=1e-5)
    assert sum(w.numel() for n, w in adapted.trainable().items() if n.startswith("model")) == 2 * (
        2 * (16 + 16) + 2 * (16 + half)
    )


def test_full_with_layer_decay_and_groups(loaded):
    adapted = ADAPT.build("full", loaded, None, None, layer_decay=0.5)
    lr = {g["lr"] for g in adapted.groups(lr_peak=1.0, weight_decay=0.1)}
    assert lr == {1.0, 0.5, 0.25, 0.125}


def test_refusals(loaded, tiny):
    with pytest.raises(ConfigError, match="did you mean 'lora'"):
        finetune(loaded, tiny.batch(), strategy="lorra")
    with pytest.raises(ConfigError, match="no argument 'rnk'"):
        finetune(loaded, tiny.batch(), strategy="lora", strategy_choices={"rnk": 2})
    with pytest.raises(ConfigError, match="rate_hz=20"):
        finetune(loaded, tiny.batch(), facts=tiny.facts(rate_hz=20.0))
    with pytest.raises(ConfigError, match="vocabulary"):
        finetune(loaded, tiny.batch(), facts=tiny.facts(channels=("x",)))
    with pytest.raises(ConfigError, match="up to 9 channels"):
        finetune(loaded, tiny.batch(), facts=tiny.facts(max_channels=9))
    unlabelled = tiny.batch()
    unlabelled.target = None
    with pytest.raises(ConfigError, match="stratified needs"):
        finetune(loaded, unlabelled, tail="stratified")
    plain = loaded.copy()
    plain.model = Backbone()
    plain.model.map = nn.Linear(2, 2, bias=False)
    for name, sentence in (("lora", "no attention whose maps are named query"), ("bitfit", "no biases")):
        with pytest.raises(ConfigError, match=sentence):
            ADAPT.build(name, plain, None, None)
    headless = loaded.copy()
    headless.objective = Objective()
    with pytest.raises(ConfigError, match="has none"):
        ADAPT.build("probe", headless, None, None)
    with pytest.raises(DataError, match="no window"):
        finetune(loaded, [])


def test_scratch_forgets_the_pretraining(loaded, tiny):
    a = finetune(loaded, tiny.batch(), strategy="scratch", steps=0, seed=1).loaded
    b = finetune(loaded, tiny.batch(), strategy="scratch", steps=0, seed=1).loaded
    assert torch.equal(weights(a), weights(b))
    assert not torch.equal(weights(a), weights(loaded))
    assert torch.equal(weights(finetune(loaded, tiny.batch(), steps=0).loaded), weights(loaded))


def test_finetuning_is_reproducible_and_learns_fast(loaded, tiny):
    results = [finetune(loaded, tiny.batch(60), objective=SUPERVISED, steps=80, lr_peak=3e-3) for _ in range(2)]
    assert torch.equal(weights(results[0].loaded), weights(results[1].loaded))
    new = results[0].loaded
    test = tiny.batch(200, seed=77)
    assert (new.objective.predict(new.model, test).argmax(1) == test.target).float().mean() > 0.9
    assert results[0].n_tail == 12
    assert new.card["objective"] == {"name": "supervised", "choices": {}}


def test_early_stopping_keeps_the_model_that_came_when_nothing_helps(loaded, tiny):
    """Learning from noise at a large rate only harms the tail, so the pretrained weights stay."""
    good = finetune(loaded, tiny.batch(64), steps=150, lr_peak=5e-3, tail="none").loaded
    noise = tiny.batch(40, seed=5)
    noise.signal[:30] = 3 * torch.randn(30, 5, 12, generator=torch.Generator().manual_seed(0))
    result = finetune(
        good, noise, steps=60, lr_peak=3e-2, tail="time", tail_fraction=0.25, evaluate_every=5, patience=3
    )
    assert result.best_step == 0
    assert torch.equal(weights(result.loaded), weights(good))
    assert result.history[-1]["step"] == 15  # three looks without improvement


def test_a_new_head_for_classes_is_never_left_as_it_came(loaded, tiny):
    """What is learned from wrong labels harms the tail, yet the start says the same of everything."""
    wrong = tiny.batch(40, seed=5)
    wrong.target[:30] = 1 - wrong.target[:30]
    how = dict(steps=20, lr_peak=3e-2, tail="time", tail_fraction=0.25, evaluate_every=5)
    result = finetune(loaded, wrong, objective=SUPERVISED, **how)
    start, *looks = [h["tail_loss"] for h in result.history]
    assert min(looks) > start
    assert result.best_step == result.history[1 + int(np.argmin(looks))]["step"] > 0


def test_refit_uses_the_whole_calibration(loaded, tiny):
    some = finetune(loaded, tiny.batch(40), steps=20, lr_peak=1e-3, tail="time", refit=False, evaluate_every=5)
    whole = finetune(loaded, tiny.batch(40), steps=20, lr_peak=1e-3, tail="time", evaluate_every=5)
    assert (some.n_train, whole.n_train, whole.n_tail) == (32, 40, 8)
    assert some.best_step == whole.best_step > 0
    assert not torch.equal(weights(some.loaded), weights(whole.loaded))


def test_the_prior_holds_the_weights_back(loaded, tiny):
    def distance(strength):
        new = finetune(loaded, tiny.batch(16), steps=30, lr_peak=1e-2, tail="none", prior_strength=strength).loaded
        return (weights(new) - weights(loaded)).norm()

    assert distance(10.0) < 0.6 * distance(0.0)


def test_a_scaled_prior_is_one_per_window(loaded, tiny):
    choices = dict(steps=5, lr_peak=1e-2, tail="none")
    scaled = finetune(loaded, tiny.batch(16), prior_strength=16.0, prior_scaled=True, **choices).loaded
    plain = finetune(loaded, tiny.batch(16), prior_strength=1.0, **choices).loaded
    assert torch.equal(weights(scaled), weights(plain))


def test_probe_keeps_dropout_off_in_the_frozen_model(loaded, tiny):
    adapted = ADAPT.build("probe", loaded, None, SUPERVISED)
    assert adapted.frozen_backbone
    assert all(n.startswith("objective.") for n in adapted.trainable())


def test_tail_in_time_shares_no_sample():
    from neurofm.schema.batch import NeuralBatch

    start = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 0.0, 0.5, 1.0, 1.5])
    batch = NeuralBatch(
        signal=torch.zeros(12, 1, 10), channel_mask=torch.ones(12, 1, dtype=torch.bool),
        time_mask=torch.ones(12, 10, dtype=torch.bool), rate_hz=10.0, start_s=start.double(),
        recording_id=["a"] * 8 + ["b"] * 4,
    )  # fmt: skip
    early, tail = tail_in_time(batch, fraction=0.25, gap_s=0.5)
    # windows of 1 s: in "a" the tail starts at 3.0, so the last early window may start at 1.5; in "b" at 1.5, at 0.0
    assert tail.tolist() == [6, 7, 11]
    assert early.tolist() == [0, 1, 2, 3, 8]
    early, tail = tail_in_time(select(batch, torch.arange(2)), fraction=0.25)
    assert (len(early), len(tail)) == (2, 0)


def test_stratified_tail_has_every_class():
    target = torch.tensor([0] * 20 + [1] * 10 + [2] * 5)
    early, tail = stratified_tail(target, fraction=0.2, generator=torch.Generator().manual_seed(0))
    assert torch.bincount(target[tail]).tolist() == [4, 2, 1]
    assert sorted([*early.tolist(), *tail.tolist()]) == list(range(35))


def test_join_is_the_inverse_of_select(tiny):
    whole = tiny.batch(7)
    parts = [select(whole, torch.tensor([0, 1, 2])), select(whole, torch.tensor([False] * 3 + [True] * 4))]
    again = join(parts)
    assert torch.equal(again.signal, whole.signal)
    assert again.recording_id == whole.recording_id
    assert torch.equal(again.start_s, whole.start_s)
    with pytest.raises(DataError, match="differ"):
        join([whole, replace(whole, rate_hz=2 * whole.rate_hz)])


def test_join_pads_windows_of_fewer_channels(tiny):
    few, many = tiny.batch(2, n_channels=3), tiny.batch(2, n_channels=4)
    both = join([few, many])
    assert both.signal.shape[1] == 4
    assert torch.equal(both.signal[:2, :3], few.signal)
    assert not both.signal[:2, 3].any()
    assert both.channel_mask[:2].sum(1).tolist() == [3, 3]
    assert both.channel_mask[2:].all()


def test_every_yaml_names_a_strategy_and_its_choices(request, loaded):
    paths = sorted((request.config.rootpath / "conf" / "adapt").glob("*.yaml"))
    assert {p.stem for p in paths} == set(ADAPT.names())
    for path in paths:
        choices = yaml.safe_load(path.read_text())
        name = choices.pop("name")
        if name in ANY_MODEL:
            ADAPT.build(name, loaded, None, None, **choices)


def test_heads_stay_when_only_the_window_changes(tiny, loaded):
    head = loaded.objective.head.weight.detach().clone()
    new = tiny.facts(window_s=tiny.facts().window_s / 2)
    kept = finetune(loaded, tiny.batch(), facts=new, objective={"name": "masked_region"}, steps=0).loaded
    assert torch.equal(kept.objective.head.weight, head)
    # and the card says how many positions the model has, which the shorter window no longer does
    table = loaded.model.time_table.weight
    again = kept.fresh(seed=1).model
    assert again.time_table.weight.shape == table.shape
    assert kept.card["model"]["choices"]["n_positions"] == len(table)
    with pytest.raises(ConfigError, match="too few"):
        finetune(loaded, tiny.batch(), facts=tiny.facts(window_s=2 * tiny.facts().window_s), steps=0)


def test_a_closed_form_part_needs_stretches(tiny):
    model = tiny.model()
    choices = {"skip": {"name": "ridge"}}
    objective = OBJECTIVES.build("masked_region", model, tiny.facts(), **choices)
    entry = {"name": "masked_region", "choices": choices}
    card = {"model": {"name": "mvpformer", "choices": {}}, "objective": entry}
    loaded = LoadedModel(model, objective, tiny.facts(), [], card)
    with pytest.raises(ConfigError, match="closed form: pass stretches"):
        finetune(loaded, tiny.batch(), steps=0)


@pytest.mark.parametrize("layer_decay", [1.0, 0.1])
def test_finetune_moves_lower_layers_less_under_layer_decay(loaded, tiny, layer_decay):
    result = finetune(
        loaded, tiny.batch(16), strategy="full", strategy_choices={"layer_decay": layer_decay}, steps=1, batch_size=16,
        lr_peak=1e-2, weight_decay=0.0, warmup_steps=1, tail="none", gradient_clip=1e9,
    )  # fmt: skip
    # the first step of AdamW is the learning rate times the sign of the gradient
    before = dict(loaded.model.named_parameters())
    moved = {n: float((p - before[n]).detach().abs().max()) for n, p in result.loaded.model.named_parameters()}
    blocks = sorted({int(n.split(".")[1]) for n in moved if n.startswith("blocks.")})
    by_block = [max(v for n, v in moved.items() if n.startswith(f"blocks.{i}.")) for i in blocks]
    first = max(v for n, v in moved.items() if n.startswith("tokenizer."))
    ratios = [a / b for a, b in zip([first, *by_block[:-1]], by_block, strict=True)]
    assert ratios == pytest.approx([layer_decay] * len(ratios), rel=0.02)
