"""What a corpus hands out is what the shards hold, at the place that the split allows."""

import numpy as np
import pytest
import torch

from neurofm.data.corpus import Corpus, merged
from neurofm.data.splits.spans import Span, Split
from neurofm.data.task import Task
from neurofm.schema.errors import ConfigError, DataError

RATE_HZ = 10.0
SPLIT = {"rule": "new_subject", "subject": "2", "budgets_s": {"3": 3}, "test_s": 6, "gap_s": 1}


@pytest.fixture(scope="module")
def arrays():
    rng = np.random.default_rng(0)
    return {r: (rng.standard_normal((200, 3)) * [1, 5, 9] + 4).astype(np.float32) for r in ("p_1", "p_2", "p_3")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, arrays):
    import importlib.util
    import sys
    from pathlib import Path

    path = Path(__file__).parents[1] / "data" / "conftest.py"
    spec = importlib.util.spec_from_file_location("shard_writer_of_data_tests", path)
    writer = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = writer
    spec.loader.exec_module(writer)
    made = [writer.Made(r, [x], rate_hz=RATE_HZ, subject=r[-1], names=["a", "b", "c"]) for r, x in arrays.items()]
    fast = tmp_path_factory.mktemp("fast")
    writer.make_shards(fast, [*made, writer.Made("p_4", [arrays["p_1"]], rate_hz=20.0, subject="4")])
    return writer.make_shards(tmp_path_factory.mktemp("corpus"), made), fast


@pytest.fixture
def corpus(folder):
    made = Corpus(
        path=str(folder[0]), split=SPLIT, transforms=[{"name": "standardize"}], task=Task(window_s=1.0, stride_s=0.5)
    )
    made.fit_transforms("pretrain")
    made.fit_transforms("calibration-3")
    return made


def standardized(arrays, span):
    # calibration or pretraining span of the recording → its statistics
    fitted = {"p_2": slice(0, 30)}.get(span.recording_id, slice(0, 170))
    x = arrays[span.recording_id].astype(np.float64)
    at = slice(round(span.start_s * RATE_HZ), round(span.stop_s * RATE_HZ))
    return (x[at] - x[fitted].mean(0)) / x[fitted].std(0)


@pytest.mark.parametrize("part", ["pretrain", "calibration-3", "test"])
def test_values_and_stretches_are_the_shards_through_the_transforms(corpus, arrays, part):
    spans, facts = corpus.split[part], corpus.facts("pretrain")
    stretches = list(corpus.stretches(part, facts))
    assert len(stretches) == len(spans)
    for span, batch in zip(spans, stretches, strict=True):
        expected = standardized(arrays, span)
        np.testing.assert_allclose(corpus.values(span), expected, atol=1e-5)
        np.testing.assert_allclose(batch.signal[0].numpy().T, expected, atol=1e-5)
        assert batch.recording_id == [span.recording_id]
        assert batch.channel_ids.tolist() == [[1, 2, 3]]
        # the held-out person is nobody that the model knows
        assert batch.subject.tolist() == [{"p_1": 1, "p_3": 2}.get(span.recording_id, 0)]


def test_as_batch_agrees_with_the_loader(corpus):
    facts = corpus.facts("pretrain")
    loader = corpus.loader("pretrain", facts, batch_size=7, seed=0, training=False)
    n = 0
    for batch in loader:
        for i, r in enumerate(batch.recording_id):
            start_s = float(batch.start_s[i])
            values = corpus.values(Span(r, start_s, start_s + 1.0))
            mine = corpus.as_batch(values[None], r, facts)
            for field in ("signal", "channel_mask", "time_mask", "channel_ids", "subject", "positions"):
                torch.testing.assert_close(getattr(mine, field)[0], getattr(batch, field)[i], equal_nan=True)
            n += 1
    # 17 s each of two people, a window every half second
    assert n == 2 * (17 * 2 - 1)


def test_training_windows_never_leave_their_part(corpus):
    facts = corpus.facts("pretrain")
    loader = corpus.loader("pretrain", facts, batch_size=8, seed=3, training=True)
    starts = [float(s) for batch in loader for s in batch.start_s]
    assert max(starts) <= 16.0
    assert any(round(s * 10) % 5 for s in starts)  # jittered off the grid
    calibration = corpus.loader("calibration-3", facts, batch_size=99, seed=0, training=False)
    (batch,) = calibration
    np.testing.assert_allclose(batch.start_s, np.arange(0, 2.1, 0.5))


def test_facts_are_those_of_the_part(corpus, folder):
    facts = corpus.facts("pretrain")
    assert (facts.rate_hz, facts.window_s, facts.max_channels, facts.window_samples) == (RATE_HZ, 1.0, 3, 10)
    assert facts.channels == ("a", "b", "c")
    assert facts.subjects == ("1", "3")
    assert facts.classes == ()
    mixed = Corpus(path=str(folder[1]), split={"rule": "everything"}, task=Task(window_s=1.0))
    with pytest.raises(DataError, match=r"rates \[10\.0, 20\.0\] Hz; resample them to one when preparing"):
        mixed.facts("pretrain")
    empty = Corpus(path=str(folder[0]), split=Split(parts={"pretrain": []}), task=Task(window_s=1.0))
    with pytest.raises(DataError, match="part 'pretrain' is empty"):
        empty.facts("pretrain")


def test_what_is_missing_or_mistyped_is_said(folder):
    path = str(folder[0])
    with pytest.raises(ConfigError, match=r"held_out must name the subject .*held_out=… \(1, 2, 3\)"):
        Corpus(path=path, split={**SPLIT, "subject": None}, task=Task(window_s=1.0))
    with pytest.raises(ConfigError, match="unknown split rule 'new_subjct': did you mean 'new_subject'"):
        Corpus(path=path, split={**SPLIT, "rule": "new_subjct"}, task=Task(window_s=1.0))
    with pytest.raises(ConfigError, match=r"split rule 'new_subject': .*gaps_s"):
        Corpus(path=path, split={**SPLIT, "gaps_s": 1}, task=Task(window_s=1.0))
    with pytest.raises(ConfigError, match="windows='slidin' is unknown"):
        Corpus(path=path, split=SPLIT, task=Task(window_s=1.0, windows="slidin"))
    with pytest.raises(ConfigError, match="no subject '9'"):
        Corpus(path=path, split={**SPLIT, "subject": "9"}, task=Task(window_s=1.0))


def test_provenance_joins_what_touches(corpus):
    made = corpus.provenance("pretrain")
    assert made["split"]["spans"] == [["p_1", 0.0, 17.0, ""], ["p_3", 0.0, 17.0, ""]]
    assert made["subjects"] == ["sim/1", "sim/3"]
    assert made["datasets"][0]["hours"] == pytest.approx(34 / 3600)
    spans = [Span("r", 1, 2), Span("r", 0, 1), Span("r", 3, 4), Span("r", 4, 5, "s"), Span("q", 2, 3)]
    assert merged(spans) == [["q", 2, 3, ""], ["r", 0, 2, ""], ["r", 3, 4, ""], ["r", 4, 5, "s"]]
