"""Every model that reads a signal alone can be exported, answers as it did, and takes one array."""

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from neurofm.hub.export import export_decoder
from neurofm.hub.load import LoadedModel
from neurofm.objectives import OBJECTIVES
from neurofm.schema.errors import ConfigError, DataError
from neurofm.schema.hashing import read_json
from tests.registry.cases import SMALL, VARIANTS, build, make_batch

# spikes as events, or a context of other trials: no program of one input
MORE_THAN_A_SIGNAL = {"neuroformer", "population_decoder", "braincorl"}
QUICK = ["mvpformer", "nice", "pooled_cnn"]


def decoder(name):
    model, facts = build(name, {**SMALL[name], **VARIANTS[name][0]})
    facts = replace(facts, classes=("a", "b"))
    objective = OBJECTIVES.build("supervised", model, facts)
    torch.nn.init.normal_(objective.head.weight)
    loaded = LoadedModel(model.eval(), objective.eval(), facts, [], {"model": {"name": name}})
    # the first window has five of six channels: the last is padding
    return loaded, make_batch(facts, (5, 6), pad_to=6)


def check(name, tmp_path, formats):
    loaded, batch = decoder(name)
    before = {n: t.clone() for n, t in loaded.model.state_dict().items()}
    export_decoder(loaded, tmp_path, batch=batch, formats=formats, channel_names=list("abcde"))
    assert all(torch.equal(t, before[n]) for n, t in loaded.model.state_dict().items())
    about = read_json(tmp_path / "decoder.json")
    assert about["input"]["shape"] == [1, 5, loaded.facts.window_samples]
    assert about["classes"] == ["a", "b"]
    g = torch.Generator().manual_seed(3)
    x = torch.randn(1, 5, loaded.facts.window_samples, generator=g)
    whole = torch.nn.functional.pad(x, (0, 0, 0, 1)).expand(2, -1, -1)
    with torch.no_grad():
        # the padded batch of the loader, with a signal that the export never saw
        expected = loaded.objective.predict(loaded.model, batch.with_signal(whole * batch.channel_mask[..., None]))[0]
    if "torch_export" in formats:
        said = torch.export.load(tmp_path / "decoder.pt2").module()(x)
        torch.testing.assert_close(said[0], expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    if "onnx" in formats:
        import onnxruntime

        session = onnxruntime.InferenceSession(tmp_path / "decoder.onnx")
        assert [i.name for i in session.get_inputs()] == ["signal"]
        said = session.run(None, {"signal": x.numpy()})[0]
        np.testing.assert_allclose(said[0], expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize("name", QUICK)
def test_torch_export(name, tmp_path):
    check(name, tmp_path, ["torch_export"])


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(SMALL) - set(QUICK) - MORE_THAN_A_SIGNAL))
def test_every_model_exports(name, tmp_path):
    check(name, tmp_path, ["torch_export"])


def test_onnx(tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    check("pooled_cnn", tmp_path, ["torch_export", "onnx"])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mvpformer", "nice", "token_transformer"])
def test_more_of_onnx(name, tmp_path):
    pytest.importorskip("onnxruntime")
    check(name, tmp_path, ["onnx"])


@pytest.mark.parametrize("name", sorted(MORE_THAN_A_SIGNAL))
def test_what_reads_more_is_refused(name, tmp_path):
    loaded, batch = decoder(name)
    with pytest.raises(ConfigError, match="reads more than a signal"):
        export_decoder(loaded, tmp_path, batch=batch, formats=["torch_export"])
    assert not list(tmp_path.iterdir())


def test_refusals(tmp_path, monkeypatch):
    loaded, batch = decoder("pooled_cnn")
    with pytest.raises(ConfigError, match="unknown format 'onx': did you mean 'onnx'"):
        export_decoder(loaded, tmp_path, batch=batch, formats=["onx"])
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ConfigError, match=r"neurofm\[export\]"):
        export_decoder(loaded, tmp_path, batch=batch, formats=["onnx"])


def test_a_model_that_branches_on_the_signal_is_refused(tmp_path):
    loaded, batch = decoder("pooled_cnn")
    honest = loaded.objective.predict
    loaded.objective.predict = lambda m, b: honest(m, b) * (2.0 if bool(b.signal.mean() > 0.0) else 1.0)
    positive = batch.with_signal(batch.signal.abs() - 0.15)
    with pytest.raises((ConfigError, DataError), match=r"depends on the values of the signal|differs from the model"):
        export_decoder(loaded, tmp_path, batch=positive.with_signal(-positive.signal), formats=["torch_export"])
