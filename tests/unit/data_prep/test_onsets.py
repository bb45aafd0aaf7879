"""Events found by time are those a walk over all of them finds, in their own order."""

import numpy as np

from data_prep.writer.onsets import Onsets
from neurofm.schema.recording import Event


def test_events_of_a_span_in_their_own_order():
    rng = np.random.default_rng(0)
    events = [Event(onset_s=float(t), kind="e", label=str(i)) for i, t in enumerate(rng.integers(0, 50, 300) / 5)]
    onsets = Onsets(events)
    for start, stop in rng.uniform(-1, 11, (50, 2)).round(1):
        walked = [e for e in events if start <= e.onset_s < stop]
        assert [e for e in onsets.about(start, stop) if start <= e.onset_s < stop] == walked
    assert Onsets([]).about(0, 1) == []
