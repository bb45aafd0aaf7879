"""Every registered model and every file of conf/model: builds, learns, and does not see padding."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from neurofm.models import MODELS
from neurofm.models.base import Backbone, CodebookModel, Encoded, offers
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import ConfigError
from tests.registry.cases import ELSEWHERE, SMALL, VARIANTS, build, facts_for, make_batch

CONF = Path(__file__).parents[2] / "conf" / "model"
FILES = sorted(CONF.glob("*.yaml"))
ON_PAPER_ONLY = {
    "mvpformer_s", "mvpformer_m", "labram_large", "labram_huge", "labram_tokenizer", "neurorvq", "brainbert_base",
    "brainbert_large", "mindbridge", "loongx", "braincorl", "neuroformer_visnav",
}  # fmt: skip
"""Too large to run in a test: built without memory."""

BEFORE_A_NORM = ("tsconv.temporal.bias", "tsconv.spatial.bias")
"""Offsets that the norm after them removes: published, but their gradient is zero."""

CASES = [
    pytest.param(n, {**SMALL[n], **v}, id=f"{n}-{i}")
    for n in MODELS.names()
    if n in SMALL
    for i, v in enumerate(VARIANTS[n])
]


def valid_tokens(encoded: Encoded, sample: int) -> torch.Tensor:
    return encoded.tokens[sample][encoded.mask[sample]]


def test_every_model_is_covered():
    # the adapter of another package has tests of its own, with a stand-in
    assert set(SMALL) == set(VARIANTS) == set(MODELS.names()) - ELSEWHERE
    assert FILES
    assert {path.stem for path in FILES} >= ON_PAPER_ONLY


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_every_file_builds_and_states_its_source(path):
    assert path.read_text().startswith("# "), "the first line says where the sizes come from"
    choices = yaml.safe_load(path.read_text())
    name = choices.pop("name")
    if path.stem in ELSEWHERE:
        return
    if path.stem in ON_PAPER_ONLY:
        with torch.device("meta"):
            build(name, choices)
        return
    model, facts = build(name, choices)
    encoded = model(make_batch(facts, (6, 2)))
    model.pool(encoded).square().sum().backward()
    assert encoded.tokens.isfinite().all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize(("name", "choices"), CASES)
def test_contract(name, choices):
    model, facts = build(name, choices)
    batch = make_batch(facts, (6, 3, 1))
    encoded = model(batch)
    assert isinstance(model, Backbone)
    B, N, D = encoded.tokens.shape
    assert (B, model.dim) == (3, D)
    for field in (encoded.mask, encoded.channel, encoded.time_s):
        assert field.shape == (B, N)
    assert encoded.mask.dtype == torch.bool
    assert encoded.tokens.isfinite().all()
    assert ((encoded.time_s > 0) & (encoded.time_s < facts.window_s)).all()
    assert model.pool(encoded).shape == (B, D)
    assert set(model.subject_parameters()) <= set(dict(model.named_parameters()))


@pytest.mark.parametrize(("name", "choices"), CASES)
def test_every_parameter_gets_a_finite_gradient(name, choices):
    model, facts = build(name, choices)
    batch = make_batch(facts, (6, 3))
    for p in model.parameters():
        if not p.any():
            # what starts from zero lets no gradient through at the first step; any other value does
            torch.nn.init.normal_(p, std=0.1)
    own_terms: dict[str, torch.Tensor] = {}
    if offers(model, Backbone.encode_with_terms):
        encoded, own_terms = model.encode_with_terms(batch, torch.Generator().manual_seed(0))
    elif not model.hides_tokens:
        encoded = model(batch)
    else:
        columns = 6 if int(model(batch).channel.max()) >= 0 else 1
        hidden = torch.zeros(2, 4, columns, dtype=torch.bool)
        hidden[:, 1, 0] = True
        encoded = model.encode(batch, hidden)
    weight = torch.randn(encoded.tokens.shape, generator=torch.Generator().manual_seed(1))
    if isinstance(model, CodebookModel):
        # decoder and heads take part in its own losses only
        own_terms = model.losses(batch, None)[0]
    sum(own_terms.values(), (encoded.tokens * weight)[encoded.mask].sum()).backward()
    silent = [
        n for n, p in model.named_parameters()
        if (p.grad is None or not p.grad.abs().max() > 0) and not n.endswith(BEFORE_A_NORM)
    ]  # fmt: skip
    assert silent == []
    assert all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize(("name", "choices"), CASES)
def test_padding_changes_neither_outputs_nor_gradients(name, choices):
    model, facts = build(name, choices)
    model.double().eval()

    def run(batch: NeuralBatch) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
        model.zero_grad()
        embedding = {k: v.double() for k, v in batch.stimulus_embedding.items()}
        encoded = model(replace(batch, signal=batch.signal.double(), stimulus_embedding=embedding))
        tokens = valid_tokens(encoded, 0)
        pooled = model.pool(encoded)[0]
        (tokens.square().sum() + pooled.sum()).backward()
        grads = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in model.parameters()]
        return tokens.detach(), pooled.detach(), grads

    alone, padded = run(make_batch(facts, (3,))), run(make_batch(facts, (3, 6), pad_to=6))
    assert torch.allclose(alone[0], padded[0], rtol=1e-10, atol=1e-12)
    assert torch.allclose(alone[1], padded[1], rtol=1e-10, atol=1e-12)
    for a, b in zip(alone[2], padded[2], strict=True):
        assert (a - b).abs().max() <= 1e-10 * max(float(a.abs().max()), 1e-3)


TOKENIZERS = [c for c in CASES if isinstance(build(*c.values)[0], CodebookModel)]


@pytest.mark.parametrize(("name", "choices"), TOKENIZERS)
def test_padding_changes_no_code_and_no_loss(name, choices):
    model, facts = build(name, choices)
    model.double()
    state = {k: v.clone() for k, v in model.state_dict().items()}

    def run(batch: NeuralBatch) -> tuple:
        model.load_state_dict(state)
        batch = replace(batch, signal=batch.signal.double() + 1e3 * ~batch.channel_mask[..., None])
        torch.manual_seed(0)
        terms, metrics = model.losses(batch, None)
        # twice: the second pass meets the codebook that the first one left
        again, _ = model.losses(batch, None)
        codes = model.codes(batch)
        signal = model.decode(codes, batch)
        assert codes.code.shape[-1] == len(model.n_codes)
        assert signal.shape == batch.signal.shape
        assert not signal[~batch.channel_mask].any()
        return [*terms.values(), *metrics.values(), *again.values()], codes.code[codes.mask], signal[batch.channel_mask]

    one, padded = run(make_batch(facts, (3, 2))), run(make_batch(facts, (3, 2), pad_to=6))
    assert torch.allclose(torch.stack(one[0]), torch.stack(padded[0]), rtol=1e-9, atol=1e-12)
    assert torch.equal(one[1], padded[1])
    assert torch.allclose(one[2], padded[2], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("name", "choices"), CASES)
def test_the_same_input_gives_the_same_output(name, choices):
    model, facts = build(name, choices)
    batch = make_batch(facts, (6, 3))
    model.eval()
    assert torch.equal(model(batch).tokens, model(batch).tokens)
    again, _ = build(name, choices)
    assert torch.equal(model(batch).tokens, again.eval()(batch).tokens)


def test_a_class_that_is_no_backbone_is_refused():
    with pytest.raises(ConfigError, match=r"no subclass of neurofm\.models\.base\.Backbone; let it inherit"):
        MODELS.build("torch.nn:Identity", facts_for({}), allow_import=True)


def test_what_a_model_offers_is_what_it_overrides():
    assert offers(build("ndt", SMALL["ndt"])[0], Backbone.grow)
    assert not offers(build("nice", SMALL["nice"])[0], Backbone.grow)
    with pytest.raises(ConfigError, match="cannot be fed segment by segment"):
        build("nice", SMALL["nice"])[0].begin_stream()
