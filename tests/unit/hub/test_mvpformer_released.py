"""Conversion of released checkpoints: published names and shapes, made up at small width, against the equations."""

import importlib.util
import math
from pathlib import Path

import numpy as np
import pytest
import pywt
import torch
import yaml
from safetensors.torch import save_file

import neurofm
from neurofm.hub.load import load_model
from neurofm.hub.mvpformer_released import convert, import_released
from neurofm.hub.state_dict import read_state_dict
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import DataError

ROOT = Path(__file__).parents[3]
SMALL = dict(
    tokenizer="wavelet", patch_samples=32, dim=16, n_layers=2, n_heads=4, n_kv_heads=2, ffn_dim=24, content_window=10,
    causal=True, dropout=0.1, n_positions=14, n_channels=6,
)  # fmt: skip
INPUT = dict(rate_hz=32.0, window_s=12.0)
FEATURES = sum(len(c) for c in pywt.wavedec(np.zeros(32), "db4", mode="periodic"))


def published(
    D, layers, K, d, inner, features, segment, *, n_positions=110, n_channels=128, outputs=None, buffers=True
):
    """Names and shapes as the released code registers them."""
    shapes = {"seizure_embeddings": (3, segment)}
    for i in range(layers):
        h = f"mvpformer.h.{i}."
        shapes |= {h + "ln_1.weight": (D,), h + "ln_2.weight": (D,), h + "attn.attn_bias": (3 * K * d,)}
        shapes |= {h + f"attn.{n}.weight": (K * d, D) for n in ("position_net", "channel_net")}
        shapes |= {h + "attn.q_attn.weight": (D, D), h + "attn.c_proj.weight": (D, D)}
        shapes |= {h + "attn.c_attn.weight": (2 * K * d, D), h + "mlp.down_proj.weight": (D, inner)}
        shapes |= {h + f"mlp.{n}_proj.weight": (inner, D) for n in ("gate", "up")}
        if buffers:
            shapes |= {h + "attn.time_bias": (1, 1, n_positions, n_positions), h + "attn.masked_bias": ()}
    shapes |= {"mvpformer.ln_f.weight": (D,), "mvpformer.positional_embedding.weight": (n_positions, D)}
    shapes |= {"mvpformer.channel_embedding.weight": (n_channels, D), "encoder.ln.weight": (features,)}
    return shapes | {"encoder.proj.weight": (D, features), "head.head.weight": (D if outputs is None else outputs, D)}


def made_up(outputs=None, seed=0):
    g = torch.Generator().manual_seed(seed)
    shapes = published(16, 2, 2, 4, 24, FEATURES, 32, n_positions=14, n_channels=6, outputs=outputs)
    return {
        n: torch.randn(s, generator=g) * 0.5 + (n.endswith(("ln_1.weight", "ln_f.weight"))) for n, s in shapes.items()
    }


def rms(x, weight):
    return x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt() * weight


def forward(w, signal):
    """The published system from its own names, by index and in float64; signal (T, C, samples) of one window."""
    w = {n: t.double() for n, t in w.items()}
    coefficients = np.concatenate(pywt.wavedec(signal.numpy(), "db4", mode="periodic"), axis=-1)
    e = rms(torch.tensor(coefficients), w["encoder.ln.weight"]) @ w["encoder.proj.weight"].T
    x, (T, C, _) = e, e.shape
    H, K, d = 4, 2, 4
    lag = torch.arange(T)[:, None] - torch.arange(T)[None]
    apart = (torch.arange(C)[:, None] - torch.arange(C)[None]).abs()
    counts = (lag.abs() <= 10) | (torch.arange(T) == T - 1)[:, None]
    for i in range(2):
        p = {n.removeprefix(f"mvpformer.h.{i}."): t for n, t in w.items() if n.startswith(f"mvpformer.h.{i}.")}
        h = rms(x, p["ln_1.weight"])
        q = (h @ p["attn.q_attn.weight"].T).view(T, C, H, d)
        k, v = (h @ p["attn.c_attn.weight"].T).split(K * d, dim=-1)
        k, v = (y.view(T, C, K, d).repeat_interleave(H // K, dim=2) for y in (k, v))
        biases = [b.view(K, d).repeat_interleave(H // K, dim=0) for b in p["attn.attn_bias"].split(K * d)]
        time = (w["mvpformer.positional_embedding.weight"][:T] @ p["attn.position_net.weight"].T).view(T, K, d)
        chan = (w["mvpformer.channel_embedding.weight"][:C] @ p["attn.channel_net.weight"].T).view(C, K, d)
        time, chan = (y.repeat_interleave(H // K, dim=1) for y in (time, chan))
        content = torch.einsum("tchd,sehd->htcse", q + biases[0], k) * counts[None, :, None, :, None]
        by_lag = torch.einsum("tchd,tshd->htcs", q + biases[1], time[(T - 1 - lag).clamp(0, T - 1)])
        by_channel = torch.einsum("tchd,cehd->htce", q + biases[2], chan[C - 1 - apart])
        logit = (content + by_lag[..., None] + by_channel[:, :, :, None]) / math.sqrt(d)
        logit = logit.masked_fill((lag < 0)[None, :, None, :, None], -torch.inf)
        weight = logit.flatten(-2).softmax(-1).view_as(logit)
        attended = torch.einsum("htcse,sehd->tchd", weight, v).reshape(T, C, H * d) @ p["attn.c_proj.weight"].T
        gated = torch.nn.functional.silu(h @ p["mlp.gate_proj.weight"].T) * (h @ p["mlp.up_proj.weight"].T)
        x = x + gated @ p["mlp.down_proj.weight"].T + attended
    return rms(x, w["mvpformer.ln_f.weight"])


def window(seed=1):
    signal = torch.randn(1, 5, 12 * 32, generator=torch.Generator().manual_seed(seed))
    batch = NeuralBatch(
        signal=signal,
        channel_mask=torch.ones(1, 5, dtype=torch.bool),
        time_mask=torch.ones(1, 12 * 32, dtype=torch.bool),
        rate_hz=32.0,
    )
    return batch, signal[0].unflatten(-1, (12, 32)).transpose(0, 1)


def close(ours, reference):
    return (ours.detach().double() - reference).abs().max() / reference.abs().max() <= 1e-5


@pytest.mark.parametrize("suffix", [".pt", ".ckpt", ".safetensors"])
def test_a_converted_model_computes_the_published_equations(tmp_path, suffix):
    released = made_up()
    file = tmp_path / f"base{suffix}"
    if suffix == ".safetensors":
        save_file(released, file)
    else:
        torch.save(released if suffix == ".pt" else {"state_dict": released, "epoch": 3}, file)
    loaded = load_model(import_released(file, tmp_path / "model", choices=SMALL, **INPUT))
    batch, segments = window()
    reference = forward(released, segments)
    assert close(loaded.model(batch).tokens[0].view(12, 5, 16), reference)
    assert loaded.card["objective"]["name"] == "next_state"
    assert torch.equal(loaded.objective.head.weight, released["head.head.weight"])
    assert [f["name"] for f in loaded.card["provenance"]["released_files"]] == [file.name]
    assert "research only" in (tmp_path / "model" / "README.md").read_text()


def test_a_classifier_with_low_rank_changes(tmp_path):
    """The head's file holds head and changes; queries change as a whole, of keys and values the values."""
    base, g = made_up(), torch.Generator().manual_seed(5)
    head = {"head.head.weight": torch.randn(2, 16, generator=g), "class_loss.weight": torch.ones(2)}
    for i in range(2):
        for name, rows in (("q_attn", 16), ("c_attn", 8)):
            head[f"mvpformer.h.{i}.attn.{name}.lora_A"] = torch.randn(3, 16, generator=g)
            head[f"mvpformer.h.{i}.attn.{name}.lora_B"] = torch.randn(rows, 3, generator=g) * 0.1
    torch.save(base, tmp_path / "base.pt")
    torch.save(head, tmp_path / "head.pt")
    folder = import_released(
        tmp_path / "base.pt", tmp_path / "m", choices=SMALL, head_file=tmp_path / "head.pt", lora_alpha=6.0, **INPUT
    )
    loaded = load_model(folder)
    merged = {n: t.clone() for n, t in base.items()}
    for i in range(2):
        a = f"mvpformer.h.{i}.attn."
        merged[a + "q_attn.weight"] += 2.0 * head[a + "q_attn.lora_B"] @ head[a + "q_attn.lora_A"]
        merged[a + "c_attn.weight"][8:] += 2.0 * head[a + "c_attn.lora_B"] @ head[a + "c_attn.lora_A"]
    batch, segments = window()
    logits = forward(merged, segments)[-1].mean(0) @ head["head.head.weight"].double().T
    assert close(loaded.objective.predict(loaded.model, batch)[0], logits)
    assert loaded.facts.classes == ("background", "seizure")


def test_a_recording_of_another_rate_is_embedded(tmp_path):
    save_file(made_up(), tmp_path / "base.safetensors")
    m = neurofm.load(import_released(tmp_path / "base.safetensors", tmp_path / "m", choices=SMALL, **INPUT))
    raw = np.random.default_rng(0).normal(size=(3, 64 * 25))
    z = m.embed(raw, rate_hz=64.0, channel_names=["A1", "A2", "B1"], unit="uV")
    assert z.vectors.shape == (2, 16)
    assert np.isfinite(z.vectors).all()


def test_names_of_the_first_version_and_half_precision(tmp_path):
    released = made_up()
    old = {n.replace("mvpformer.", "genie."): t.bfloat16() for n, t in released.items()}
    converted = convert(old, choices=SMALL, **INPUT)
    assert all(t.dtype == torch.float32 for t in converted.tensors.values())
    assert torch.equal(converted.tensors["model.norm.weight"], released["mvpformer.ln_f.weight"].bfloat16().float())


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            lambda w: w.pop("mvpformer.h.1.attn.channel_net.weight"),
            "'mvpformer.h.1.attn.channel_net.weight' is missing",
        ),
        (lambda w: w.pop("encoder.proj.weight"), "'encoder.proj.weight' is missing"),
        (lambda w: w.pop("head.head.weight"), "'head.head.weight' is missing"),
        (lambda w: w.update({"mvpformer.h.0.ln_3.weight": torch.ones(16)}), "'mvpformer.h.0.ln_3.weight' is not of"),
        (lambda w: w.update({"mvpformer.wte.weight": torch.ones(16)}), "'mvpformer.wte.weight' is not of"),
        (lambda w: w.update({"mvpformer.h.2.ln_1.weight": torch.ones(16)}), "'mvpformer.h.2.ln_1.weight' has no place"),
        (lambda w: w.update({"mvpformer.ln_f.weight": torch.ones(8)}), r"'mvpformer.ln_f.weight' has shape \(8,\)"),
        (lambda w: w.update({"mvpformer.h.0.attn.attn_bias": torch.ones(23)}), r"attn_bias' has shape \(23,\)"),
        (lambda w: w.update({"head.head.weight": torch.ones(3, 16)}), "3 outputs for 2 names"),
        (lambda w: w.update({"mvpformer.h.0.attn.q_attn.lora_A": torch.ones(2, 16)}), "q_attn.lora_B' is missing"),
    ],
)
def test_anything_missing_or_unexpected_is_named(change, sentence):
    released = made_up()
    change(released)
    with pytest.raises(DataError, match=sentence):
        convert(released, choices=SMALL, **INPUT)


def test_what_is_unused_may_be_there_or_not():
    released = made_up()
    converted = convert(released, choices=SMALL, **INPUT)
    for name in converted.unused:
        del released[name]
    assert set(converted.unused) == {"seizure_embeddings"} | {
        f"mvpformer.h.{i}.{n}" for i in range(2) for n in ("ln_2.weight", "attn.time_bias", "attn.masked_bias")
    }
    again = convert(released, choices=SMALL, **INPUT)
    assert again.unused == {}
    assert all(torch.equal(again.tensors[n], t) for n, t in converted.tensors.items())


@pytest.mark.parametrize(
    ("size", "shape", "total"),
    [("s", (768, 12, 4, 64, 1728, 2610, 2560), 73_596_210), ("m", (2048, 24, 8, 128, 5632, 2610, 2560), 1_239_146_546)],
)
def test_published_sizes_to_the_parameter(size, shape, total):
    """Names and shapes only. What ours lacks of the published count are the second norm of every block (layers × D) and
    three seizure embeddings of one raw segment each; the bias of our classifier's head is not among the published."""
    choices = yaml.safe_load((ROOT / "conf" / "model" / f"mvpformer_{size}.yaml").read_text())
    choices.pop("name")
    shapes = published(*shape, outputs=2, buffers=False)
    assert sum(math.prod(s) for s in shapes.values()) == total
    released = {n: torch.empty(s, device="meta") for n, s in shapes.items()}
    converted = convert(released, choices=choices)
    ours = sum(t.numel() for n, t in converted.tensors.items() if n != "objective.head.bias")
    D, layers = shape[:2]
    assert sum(converted.unused.values()) == layers * D + 3 * 2560
    assert ours + layers * D + 3 * 2560 == total
    assert converted.objective == "supervised"
    assert converted.facts.window_s / choices["patch_s"] == 25


def test_files_that_are_no_checkpoints(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_state_dict(tmp_path / "nothing.pt")
    (tmp_path / "text.pt").write_text("hello")
    (tmp_path / "text.safetensors").write_text("hello")
    torch.save([torch.ones(2)], tmp_path / "list.pt")
    torch.save({"a": torch.ones(2), "b": "word"}, tmp_path / "mixed.pt")
    for name, sentence in (("text.pt", "damaged"), ("text.safetensors", "safetensors"), ("list.pt", "by name"),
                           ("mixed.pt", "by name")):  # fmt: skip
        with pytest.raises(DataError, match=sentence):
            read_state_dict(tmp_path / name)


class Bomb:
    """Runs code when unpickled."""

    def __reduce__(self):
        return Path.touch, (Path(__file__).with_name("exploded"),)


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    torch.save({"encoder.ln.weight": Bomb()}, tmp_path / "bomb.pt")
    with pytest.raises(DataError, match="tensors only"):
        read_state_dict(tmp_path / "bomb.pt")
    assert not Path(__file__).with_name("exploded").exists()


def test_the_script(tmp_path, monkeypatch, capsys):
    spec = importlib.util.spec_from_file_location("import_mvpformer", ROOT / "scripts" / "import_mvpformer.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert set(script.choices_of("s", tmp_path)) >= {"dim", "n_heads", "n_channels"}
    for size, dim in (("s", 16), ("m", 32)):
        (tmp_path / f"mvpformer_{size}.yaml").write_text(yaml.safe_dump({"name": "mvpformer", **SMALL, "dim": dim}))
    monkeypatch.setattr(script, "CONF", tmp_path)
    # 25 segments of 5 s at 512 Hz do not fit patches of 32 samples and 14 positions: only names of files are at stake
    monkeypatch.setattr(script, "import_released", lambda *a, **k: import_released(*a, **k, **INPUT))
    torch.save(made_up(), tmp_path / "base.pt")
    assert script.main([str(tmp_path / "base.pt")]) == 0
    assert load_model(tmp_path / "base").model.dim == 16
    assert "neurofm.load" in capsys.readouterr().out
    assert script.main([str(tmp_path / "base.pt"), "--size", "m", "--out", str(tmp_path / "wrong")]) == 1
    assert "has shape" in capsys.readouterr().err
    assert not (tmp_path / "wrong").exists()
    assert script.main([str(tmp_path / "none.pt")]) == 1
    assert "no such file" in capsys.readouterr().err
