"""Walks every objective: builds, learns with every parameter, minds no padding, names what it needs."""

from dataclasses import replace

import pytest
import torch
import yaml

from neurofm.models import MODELS
from neurofm.models.base import CodebookModel, Codes
from neurofm.objectives import OBJECTIVES
from neurofm.schema.batch import Events, NeuralBatch, StreamValues
from neurofm.schema.errors import ConfigError
from neurofm.schema.facts import Facts
from tests.registry.cases import OBJECTIVE_CASES as CASES

FACTS = Facts(
    rate_hz=10.0, window_s=1.2, max_channels=4, channels=("a", "b", "c", "d"), classes=("x", "y", "z"),
    subjects=("s", "t"), sessions=("d1", "d2"), embedding_shape=(5,),
)  # fmt: skip
IDS = [f"{n}-{'-'.join(map(str, c.values())) or 'default'}" for n, c in CASES]


MVPFORMER = dict(
    patch_samples=3, dim=16, n_layers=2, n_heads=2, ffn_dim=16, dropout=0.0, n_channels=9, mask_token=True,
    backend="math",
)  # fmt: skip
NETWORKS = {
    "in_context": ("braincorl", dict(dim=16, n_layers=2, n_heads=2, ffn_dim=16)),
    "behaviour": (
        "population_decoder", dict(dim=16, depth=1, head_dim=8, dropout=0.0, ffn_dropout=0.0, latent_step_s=0.3)
    ),
    "masked_spectrogram": (
        "brainbert",
        dict(window_samples=4, n_bins=3, hop_samples=1, trim_frames=1, dim=16, n_layers=2, n_heads=2, ffn_dim=16, dropout=0.0),
    ),
    "masked_summary": ("log_covariance", dict(patch_samples=3, band_hz=(1, 1000))),
    "tokenizer": (
        "labram_tokenizer",
        dict(patch_samples=3, dim=16, n_layers=1, n_decoder_layers=1, n_heads=2, n_codes=4, code_dim=3),
    ),
    "masked_counts": ("ndt", dict(dim=16, n_layers=1, n_heads=2, ffn_dim=32, dropout=0.0, embed_dropout=0.0)),
    "spike_sequence": (
        "neuroformer",
        dict(dim=16, n_heads=2, current_s=0.6, history_s=0.6, step_s=0.1, dropout=0.0, behaviours={"velocity": 2}),
    ),
}  # fmt: skip
"""Objectives that need a model of their own kind; the others are walked with MVPFormer."""
COUNTS = {"masked_counts"}


class Ranks(CodebookModel):
    """A tokenizer whose codes are those of the patch's sign and size; knows two channels."""

    rate_hz, patch_samples, n_codes, dim = 10.0, 3, (5, 7), 1

    def codes(self, batch):
        patches = batch.signal.unflatten(-1, (-1, 3)).transpose(1, 2).flatten(1, 2)
        channel = torch.arange(batch.signal.shape[1]).repeat(4).expand(len(batch), -1)
        ids = batch.channel_ids.gather(1, channel)
        code = torch.stack(
            [(patches.sum(-1) > 0).long() + ids % 3, (patches.abs().sum(-1) * 2).long().clamp(max=6)], -1
        )
        mask = batch.channel_mask.repeat(1, 4)
        return Codes(code * mask[..., None], mask, channel, torch.zeros(mask.shape))


def build(name, choices):
    torch.manual_seed(0)
    network, sizes = NETWORKS.get(name, ("mvpformer", MVPFORMER))
    model = MODELS.build(network, FACTS, **sizes)
    objective = OBJECTIVES.build(name, model, FACTS, **choices)
    if name == "masked_code":
        objective.attach(Ranks())
    # a head that starts from zero lets no gradient through at the first step; any other value does
    for p in objective.head.parameters() if hasattr(objective, "head") else ():
        if not p.any():
            torch.nn.init.normal_(p, std=0.1)
    return model, objective


def make_batch(extra=0, seed=1, counts=False):
    g = torch.Generator().manual_seed(seed)
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0], [1, 1, 0, 0]] * 2, dtype=torch.bool)
    signal = torch.randn(6, 4, 12, generator=g) * mask[..., None]
    if counts:
        signal = torch.poisson(signal.exp() * mask[..., None], generator=g)
    n_spikes = 10 * mask.sum(1)
    unit = torch.cat([torch.randint(int(m.sum()), (int(n),), generator=g) for m, n in zip(mask, n_spikes, strict=True)])
    events = Events(
        unit, torch.rand(len(unit), generator=g) * 1.2, torch.cat([torch.zeros(1).long(), n_spikes.cumsum(0)])
    )
    time_s = (torch.arange(5) + 0.5).expand(6, -1) * 0.24
    velocity = StreamValues(torch.randn(6, 5, 2, generator=g), time_s, torch.ones(6, 5, dtype=torch.bool))
    pad = torch.nn.functional.pad
    return NeuralBatch(
        # what lies in the padding must not matter, so it is made to stand out
        signal=pad(signal, (0, 0, 0, extra), value=7.0),
        channel_mask=pad(mask, (0, extra)),
        time_mask=torch.ones(6, 12, dtype=torch.bool),
        channel_ids=pad(torch.arange(1, 5).expand(6, -1) * mask, (0, extra)),
        rate_hz=10.0,
        target=torch.tensor([0, 1, 2, 0, 1, 2]),
        subject=torch.tensor([1, 1, 1, 2, 2, 2]),
        stimulus=torch.tensor([1, 2, 0, 1, 4, -1]),
        stimulus_embedding={"image": torch.randn(6, 5, generator=torch.Generator().manual_seed(2))},
        events=events,
        streams={"velocity": velocity},
        session=torch.tensor([1, 2, 1, 2, 1, 2]),
    )


def test_every_objective_is_walked():
    assert {name for name, _ in CASES} == set(OBJECTIVES.names())


@pytest.mark.parametrize(("name", "choices"), CASES, ids=IDS)
def test_every_parameter_that_takes_part_gets_a_gradient(name, choices):
    model, objective = build(name, choices)
    loss = objective(model, make_batch(counts=name in COUNTS), torch.Generator().manual_seed(0))
    assert torch.isfinite(loss.total)
    loss.total.backward()
    idle = {
        n for n, p in [*model.named_parameters(), *objective.named_parameters()] if p.grad is None or not p.grad.any()
    }
    # the mask token takes part only where something is hidden
    assert idle <= ({"mask_token"} if not name.startswith("masked") else set()), idle
    assert all(v.ndim == 0 and not v.requires_grad for v in [*loss.terms.values(), *loss.metrics.values()])


@pytest.mark.parametrize(("name", "choices"), CASES, ids=IDS)
def test_padding_changes_neither_loss_nor_gradient(name, choices):
    results = []
    for extra in (0, 3):
        model, objective = build(name, choices)
        model.double(), objective.double()
        batch = make_batch(extra, counts=name in COUNTS)
        batch = replace(
            batch, signal=batch.signal.double(),
            stimulus_embedding={k: v.double() for k, v in batch.stimulus_embedding.items()},
        )  # fmt: skip
        loss = objective(model, batch, torch.Generator().manual_seed(5))
        loss.total.backward()
        grads = [p.grad for p in [*model.parameters(), *objective.parameters()] if p.grad is not None]
        results.append((loss.total.detach(), torch.cat([g.flatten() for g in grads])))
    torch.testing.assert_close(results[0][0], results[1][0], rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(results[0][1], results[1][1], rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize(("name", "choices"), CASES, ids=IDS)
def test_same_generator_same_loss(name, choices):
    model, objective = build(name, choices)
    a, b = (
        objective(model, make_batch(counts=name in COUNTS), torch.Generator().manual_seed(3)).total for _ in range(2)
    )
    assert torch.equal(a, b)


@pytest.mark.parametrize(("name", "choices"), CASES, ids=IDS)
def test_needs_are_fields_of_the_batch(name, choices):
    _, objective = build(name, choices)
    assert set(objective.needs) <= set(NeuralBatch.__dataclass_fields__)


def test_every_yaml_builds(request):
    for path in sorted((request.config.rootpath / "conf" / "objective").glob("*.yaml")):
        choices = yaml.safe_load(path.read_text())
        if choices["name"] == "masked_code":
            choices |= {"n_codes": [5, 7]}
        build(choices.pop("name"), choices)


@pytest.mark.parametrize(
    ("name", "choices", "sentence"),
    [
        ("next_stat", {}, "did you mean 'next_state'"),
        ("next_state", {"knd": 1}, "did you mean 'kind'"),
        ("next_state", {"kind": "contrast"}, "did you mean 'contrastive'"),
        ("masked_region", {"hide_fraction": [0.5, 0.1]}, "low ≤ high"),
        ("masked_region", {"skip": {"name": "rigde"}}, "did you mean 'ridge'"),
        ("behaviour", {"stream": "velocity", "readout": "quary"}, "did you mean 'query'"),
        ("behaviour", {"stream": "velocity", "scale": [1.0, 2.0, 3.0]}, "3 numbers for 2 outputs"),
        ("masked_counts", {"modes": {"neurons": 1.0}}, "did you mean 'neuron'"),
        ("masked_counts", {"modes": {"neuron": 0.0}}, "weight above 0"),
        ("masked_counts", {"held_out": ["e"]}, "held_out names 'e'"),
        ("spike_sequence", {"temperature": 0.0}, "above 0"),
        ("masked_summary", {"ratio": 1.0}, "must be in"),
        ("masked_code", {}, "give objective.tokenizer=RUN"),
        ("masked_code", {"n_codes": [5, 7], "policy": "token"}, "did you mean 'tokens'"),
        ("masked_code", {"n_codes": [5, 7], "mask_ratio": 1.0}, "must be a share"),
        ("masked_code", {"n_codes": [5, 8]}, "the tokenizer has \\[5, 7\\]"),
        ("supervised", {"readout": "pol"}, "did you mean 'pool'"),
        ("supervised", {"class_weights": [1.0]}, "1 numbers for 3 classes"),
        ("alignment", {"loss": "infonce"}, "did you mean 'info_nce'"),
        ("alignment", {"head": "factorized"}, "did you mean 'factorised'"),
        ("in_context", {"context": [5, 2]}, "low ≤ high"),
    ],
)
def test_wrong_choices_get_a_sentence(name, choices, sentence):
    with pytest.raises(ConfigError, match=sentence):
        build(name, choices)
