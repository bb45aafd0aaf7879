"""The alignment objective: what it learns, retrieves, refuses, and that several ranks do what one would."""

import datetime
import math
import os
from dataclasses import replace

import pytest
import torch
from torch import distributed as dist
from torch import multiprocessing, nn

from neurofm.models import MODELS
from neurofm.models.base import Backbone
from neurofm.models.layout import one_token
from neurofm.objectives import OBJECTIVES
from neurofm.objectives.alignment_losses import info_nce, same_stimulus, scores
from neurofm.objectives.alignment_readout import at_times
from neurofm.objectives.mixing import generator_of, mix_pairs
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import ConfigError, DataError
from neurofm.schema.facts import Facts

FACTS = Facts(
    rate_hz=32.0, window_s=1.0, max_channels=3, channels=("a", "b", "c"), subjects=("s", "t"), embedding_shape=(6,)
)


class Flat(Backbone):
    """A linear encoder."""

    dim = 8

    def __init__(self, dtype=torch.float32):
        super().__init__()
        self.map = nn.Linear(96, 8, dtype=dtype)

    def encode(self, batch):
        return one_token(self.map(batch.signal.flatten(1)), batch)


def batch_of(n, *, dtype=torch.float32, stimulus=None, seed=0, shape=(6,)):
    g = torch.Generator().manual_seed(seed)
    shown = torch.arange(n) if stimulus is None else torch.as_tensor(stimulus)
    bank = torch.randn(max(n, int(shown.max()) + 1), *shape, generator=g, dtype=dtype)
    return NeuralBatch(
        signal=torch.randn(n, 3, 32, generator=g, dtype=dtype),
        channel_mask=torch.ones(n, 3, dtype=torch.bool),
        time_mask=torch.ones(n, 32, dtype=torch.bool),
        channel_ids=torch.arange(1, 4).expand(n, -1),
        rate_hz=32.0,
        subject=torch.arange(n) % 2 + 1,
        stimulus=shown,
        concept=torch.full((n,), -1),
        stimulus_embedding={"image": bank[shown]},
    )


def part(batch, rows):
    keep = {k: v[rows] for k, v in vars(batch).items() if isinstance(v, torch.Tensor)}
    return replace(batch, **keep, stimulus_embedding={k: v[rows] for k, v in batch.stimulus_embedding.items()})


def build(model, facts=FACTS, **choices):
    torch.manual_seed(1)
    return OBJECTIVES.build("alignment", model, facts, **choices)


def test_loss_is_the_closed_form():
    model = Flat()
    objective = build(model)
    batch = batch_of(5, stimulus=[1, 2, 1, 3, 4])
    loss = objective(model, batch, None)
    logits = scores(objective.predict(model, batch), batch.stimulus_embedding["image"]) / 0.07
    expected = info_nce(logits, same_stimulus(batch.stimulus, 5, logits.device))
    torch.testing.assert_close(loss.total, expected)
    assert set(loss.terms) == {"contrastive"}


def test_pieces_of_one_passage_are_negatives_and_the_same_piece_is_not():
    model = Flat()
    objective = build(model)
    batch = batch_of(4, stimulus=[0, 0, 0, 1])
    # the passage 0 twice at one moment, once at another
    piece = batch.stimulus_embedding["image"].clone()
    piece[2] = -piece[3]
    batch = replace(batch, stimulus_embedding={"image": piece})
    same = torch.zeros(4, 4, dtype=torch.bool)
    same[0, 1] = same[1, 0] = True
    logits = scores(objective.predict(model, batch), piece) / 0.07
    torch.testing.assert_close(objective(model, batch, None).total, info_nce(logits, same))


@pytest.mark.parametrize("dtype", [torch.float64])
def test_terms_add_up_with_their_weights(dtype):
    model = Flat(dtype)
    objective = build(
        model, loss="soft_clip", regression_weight=3.0, transport_weight=0.5, contrastive_weight=2.0
    ).double()
    loss = objective(model, batch_of(5, dtype=dtype), torch.Generator().manual_seed(0))
    terms = loss.terms
    expected = 2 * terms["contrastive"] + 3 * terms["regression"] + 0.5 * terms["transport"]
    torch.testing.assert_close(loss.total.detach(), expected)


@pytest.mark.parametrize(
    "choices",
    [{}, {"learn_temperature": True}, {"loss": "siglip"}, {"transport_weight": 1.0}, {"stimulus_head": "mlp"},
     {"loss": "soft_clip", "regression_weight": 1.0, "own_regression_head": True}],
)  # fmt: skip
def test_one_step_changes_every_parameter(choices):
    """NICE's release never trains its temperature; MTAM's transport term has no gradient."""
    model = Flat()
    objective = build(model, **choices)
    both = nn.ModuleDict({"m": model, "o": objective})
    before = {n: p.detach().clone() for n, p in both.named_parameters()}
    optimizer = torch.optim.SGD(both.parameters(), lr=0.1)
    objective(model, batch_of(6), torch.Generator().manual_seed(0)).total.backward()
    optimizer.step()
    assert all((p.detach() != before[n]).any() for n, p in both.named_parameters())


def test_every_term_alone_has_a_gradient():
    for choices in (
        {"regression_weight": 1.0},
        {"transport_weight": 1.0},
        {"transport_weight": 1.0, "transport": "sinkhorn"},
    ):
        model = Flat()
        objective = build(model, contrastive_weight=0.0, **choices)
        objective(model, batch_of(6), torch.Generator().manual_seed(0)).total.backward()
        assert model.map.weight.grad.abs().max() > 0


def test_learned_temperature_starts_where_told_and_is_bounded():
    objective = build(Flat(), learn_temperature=True)
    assert objective._scale("info_nce").item() == pytest.approx(1 / 0.07, rel=1e-6)
    with torch.no_grad():
        objective.log_scale.fill_(20.0)
    assert objective._scale("info_nce").item() == 100.0


def test_windows_without_an_embedding_are_left_out():
    model = Flat()
    objective = build(model)
    batch = batch_of(6)
    embedding = batch.stimulus_embedding["image"].clone()
    embedding[1], embedding[4] = 0.0, torch.nan
    got = objective(model, replace(batch, stimulus_embedding={"image": embedding}), None).total
    kept = objective(model, part(batch, torch.tensor([0, 2, 3, 5])), None).total
    torch.testing.assert_close(got, kept)
    nothing = replace(batch, stimulus_embedding={"image": torch.zeros_like(embedding)})
    with pytest.raises(DataError, match="no window of the batch has an embedding"):
        objective(model, nothing, None)


def test_concepts_may_be_what_is_the_same():
    model, batch = Flat(), replace(batch_of(4), concept=torch.tensor([1, 1, 2, 2]))
    a, b = (build(model, same=s)(model, batch, None).total.item() for s in ("stimulus", "concept"))
    assert b < a


def test_schedule_from_mixing_to_soft_labels():
    model = Flat()
    objective = build(
        model, loss="bi_mix_co_soft_clip", temperature=0.1, mix_steps=2, anneal_steps=4, soft_temperature=[0.1, 0.3]
    )
    stages, scales = [], []
    for i in range(8):
        stages.append(objective._stage())
        scales.append(1 / objective._scale(stages[-1]))
        objective(model, batch_of(6), torch.Generator().manual_seed(i))
    assert stages == ["bi_mix_co"] * 2 + ["soft_clip"] * 6
    cosine = [0.3 - 0.2 * 0.5 * (1 + math.cos(math.pi * k / 4)) for k in range(5)]
    assert scales == pytest.approx([0.1, 0.1, *cosine, 0.3])
    other = build(model, loss="bi_mix_co_soft_clip", mix_steps=2, anneal_steps=4)
    other.load_state_dict(objective.state_dict())
    assert int(other.steps) == 8
    objective.eval()
    objective(model, batch_of(6), None)
    assert int(objective.steps) == 8, "validation is not counted"


def test_mixing_stays_within_a_subject_and_a_montage():
    batch = batch_of(40)
    mask = batch.channel_mask.clone()
    mask[::5, 2] = False
    batch = replace(batch, channel_mask=mask)
    rng = generator_of(torch.Generator().manual_seed(0))
    mixed, partner, share = mix_pairs(batch, batch.subject, rng, alpha=0.15, probability=0.5, own_leads=False)
    assert torch.equal(batch.subject[partner], batch.subject)
    alike = (mask == mask[partner]).all(1)
    assert (share[~alike] == 1).all()
    assert 5 < int((share < 1).sum()) < 35
    own = share[:, None, None]
    torch.testing.assert_close(mixed.signal, own * batch.signal + (1 - own) * batch.signal[partner])


@pytest.mark.parametrize("name", ["mvpformer", "pooled_cnn"])
@pytest.mark.parametrize(("shape", "readout", "head"), [
    ((6,), "pool", "linear"), ((6,), "tokens", "mlp"), ((5, 6), "tokens", "linear"), ((5, 6), "pool", "factorised"),
])  # fmt: skip
def test_any_backbone_and_any_shape(name, shape, readout, head):
    facts = replace(FACTS, embedding_shape=shape)
    torch.manual_seed(0)
    small = dict(n_heads=2, ffn_dim=16) if name == "mvpformer" else {}
    model = MODELS.build(name, facts, patch_samples=8, dim=16, n_layers=1, **small)
    objective = build(model, facts, readout=readout, head=head, rank=2)
    batch = batch_of(4, shape=shape)
    assert objective.predict(model, batch).shape == (4, *shape)
    objective(model, batch, None).total.backward()
    assert all(p.grad is not None for p in objective.parameters())


def test_tokens_are_interpolated_linearly_in_time():
    time_s = torch.tensor([[0.25, 0.75, 1.25, 1.75]], dtype=torch.float64)
    tokens = 3 * time_s[..., None] + 1
    want = (torch.arange(5, dtype=torch.float64) + 0.5) * 0.4
    expected = (3 * want.clamp(0.25, 1.75) + 1)[None, :, None]
    torch.testing.assert_close(at_times(tokens, time_s, 5, 2.0), expected)
    assert at_times(tokens, time_s, 4, 2.0) is tokens


def test_mvpformer_tiny_learns_to_retrieve(request):
    import yaml

    choices = yaml.safe_load((request.config.rootpath / "conf/model/mvpformer_tiny.yaml").read_text())
    facts = replace(FACTS, rate_hz=64.0, window_s=4 * float(choices.get("patch_s", 0.5)))
    torch.manual_seed(0)
    model = MODELS.build(choices.pop("name"), facts, **choices)
    objective = build(model, facts, readout="tokens", head="linear")
    n, samples = 24, facts.window_samples
    embedding = torch.randn(n, 6)
    wave = torch.sin(torch.arange(samples)[None] * torch.linspace(0.1, 1.5, 6)[:, None])
    signal = (embedding @ wave)[:, None].repeat(1, 3, 1) + 0.1 * torch.randn(n, 3, samples)
    batch = replace(
        batch_of(n), signal=signal, rate_hz=64.0, time_mask=torch.ones(n, samples, dtype=torch.bool),
        stimulus_embedding={"image": embedding},
    )  # fmt: skip
    both = nn.ModuleDict({"m": model, "o": objective})
    optimizer = torch.optim.Adam(both.parameters(), lr=3e-3)
    first = None
    for i in range(40):
        loss = objective(model, batch, torch.Generator().manual_seed(i))
        first = first or loss.total.item()
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
    assert float(loss.total.detach()) < 0.5 * first
    assert float(loss.metrics["top1_in_batch"]) > 0.5


@pytest.mark.parametrize(
    ("facts", "choices", "sentence"),
    [
        (replace(FACTS, embedding_shape=()), {}, "the data have none"),
        (FACTS, {"temperature": 0.0}, "must be above 0"),
        (FACTS, {"own_regression_head": True}, "regression_weight above 0"),
        (FACTS, {"same": "image"}, "unknown same"),
        (FACTS, {"stimulus_head": "mlp", "linear": True}, "in which linear=true answers"),
        (FACTS, {"stimulus_head": "mlp", "regression_weight": 1.0}, "needs own_regression_head=true"),
        (FACTS, {"stimulus_head": "cnn"}, "unknown head"),
        (replace(FACTS, embedding_shape=(2, 6)), {"head": "residual"}, "use head=factorised"),
    ],
)
def test_wrong_choices_get_a_sentence(facts, choices, sentence):
    with pytest.raises(ConfigError, match=sentence):
        build(Flat(), facts, **choices)


def test_wrong_embeddings_get_a_sentence():
    model, batch = Flat(), batch_of(3)
    with pytest.raises(ConfigError, match=r"embeddings \(image\)"):
        build(model, embedding="clip")(model, batch, None)
    with pytest.raises(ConfigError, match="has shape"):
        build(model)(model, batch_of(3, shape=(7,)), None)


@pytest.mark.parametrize(("stimulus_head", "finds"), [(None, False), ("mlp", True)])
def test_stimuli_that_differ_in_length_alone_are_told_apart_by_a_head_of_their_own(stimulus_head, finds):
    """A cosine with the embedding itself cannot: all four have one direction."""
    torch.manual_seed(0)
    shown = torch.arange(64) % 4
    batch = replace(batch_of(64, stimulus=shown), stimulus_embedding={"image": (shown + 1.0)[:, None] * torch.ones(6)})
    batch.signal[:] = 0.1 * batch.signal + shown[:, None, None]
    model = Flat()
    objective = build(model, head="mlp", stimulus_head=stimulus_head)
    optimizer = torch.optim.Adam([*model.parameters(), *objective.parameters()], lr=1e-2)
    for _ in range(150):
        optimizer.zero_grad()
        objective(model, batch, None).total.backward()
        optimizer.step()
    gallery = objective.place((torch.arange(4) + 1.0)[:, None] * torch.ones(6))
    found = scores(objective.predict(model, batch), gallery).argmax(1) == shown
    assert bool(found.float().mean() > 0.9) is finds


def test_embeddings_themselves_are_decoded_by_what_was_taught_to():
    model, batch = Flat(), batch_of(5)
    plain = build(model)
    torch.testing.assert_close(plain.reconstruct(model, batch), plain.predict(model, batch))
    both = build(model, stimulus_head="mlp", regression_weight=1.0, own_regression_head=True)
    assert both.place(batch.stimulus_embedding["image"]).shape == both.reconstruct(model, batch).shape == (5, 6)
    assert not torch.equal(both.reconstruct(model, batch), both.predict(model, batch))
    with pytest.raises(ConfigError, match="own_regression_head=true"):
        build(model, stimulus_head="mlp").reconstruct(model, batch)


def _rank(rank, address, loss, result):
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    dist.init_process_group(
        "gloo", init_method=address, rank=rank, world_size=2, timeout=datetime.timedelta(seconds=60)
    )
    torch.manual_seed(7)
    model = Flat(torch.float64)
    objective = build(model, **loss).double()
    whole = batch_of(8, dtype=torch.float64, stimulus=[1, 2, 3, 1, 4, 2, 5, 6])
    mine = part(whole, slice(4 * rank, 4 * rank + 4))
    out = objective(model, mine, torch.Generator().manual_seed(0))
    out.total.backward()
    grads = [p.grad.clone() for p in [*model.parameters(), *objective.parameters()]]
    for g in grads:
        # what data-parallel training does
        dist.all_reduce(g)
        g /= 2
    if rank == 0:
        torch.save([out.total.detach(), *grads], result)
    dist.destroy_process_group()


@pytest.mark.parametrize(
    "loss",
    [{"learn_temperature": True, "regression_weight": 0.5},
     {"loss": "soft_clip", "transport_weight": 0.1, "head": "residual", "dropout": 0.0},
     {"stimulus_head": "residual", "regression_weight": 0.5, "own_regression_head": True}],
    ids=["info_nce", "soft_clip", "stimulus_head"],
)  # fmt: skip
def test_two_ranks_do_what_one_process_would(tmp_path, loss):
    multiprocessing.spawn(_rank, (f"file://{tmp_path}/store", loss, str(tmp_path / "out.pt")), nprocs=2)
    total, *grads = torch.load(tmp_path / "out.pt", weights_only=True)
    torch.manual_seed(7)
    model = Flat(torch.float64)
    objective = build(model, **loss).double()
    alone = objective(
        model, batch_of(8, dtype=torch.float64, stimulus=[1, 2, 3, 1, 4, 2, 5, 6]), torch.Generator().manual_seed(0)
    )
    alone.total.backward()
    torch.testing.assert_close(total, alone.total.detach(), rtol=1e-12, atol=0)
    for g, p in zip(grads, [*model.parameters(), *objective.parameters()], strict=True):
        assert (g - p.grad).abs().max() <= 1e-10 * p.grad.abs().max()
