"""Spikes drawn window after window: the second window's past is what the first drew."""

import pytest
import torch

from neurofm.models import MODELS
from neurofm.objectives import OBJECTIVES
from neurofm.objectives.spike_rollout import generate_on
from neurofm.schema.errors import DataError
from tests.unit.models.spike_batches import batch_of, facts, random_rows

WINDOW_S, CURRENT_S = 0.1, 0.05


def made():
    torch.manual_seed(0)
    f = facts(window_s=WINDOW_S)
    model = MODELS.build(
        "neuroformer",
        f,
        dim=16,
        n_heads=2,
        current_s=CURRENT_S,
        history_s=0.05,
        step_s=0.01,
        dropout=0.0,
        max_tokens=12,
    )
    objective = OBJECTIVES.build("spike_sequence", model, f)
    with torch.no_grad():
        for p in [*model.parameters(), *objective.parameters()]:
            p.add_(0.3 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())))
        # else every window would end before it begins
        objective.end.zero_()
    return model, objective


def windows(rows, n):
    """Consecutive windows of long rows."""
    out = []
    for k in range(n):
        cut = [[(t - k * CURRENT_S, u) for t, u in row if 0 <= t - k * CURRENT_S < WINDOW_S] for row in rows]
        out.append(batch_of(cut, window_s=WINDOW_S, rate_hz=1000.0))
    return out


def spikes(found):
    return [
        list(zip(found.events.time_s[a:b].tolist(), found.events.unit[a:b].tolist(), strict=True))
        for a, b in zip(found.events.offsets[:-1].tolist(), found.events.offsets[1:].tolist(), strict=True)
    ]


def test_what_is_drawn_is_what_comes_before():
    model, objective = made()
    rows = random_rows(3, window_s=0.3, n=60)
    found = list(generate_on(objective, model, windows(rows, 4), torch.Generator().manual_seed(1), temperature=1.0))
    assert sum(len(r) for f in found for r in spikes(f)) > 10
    # by hand: each window given the recorded spikes before 50 ms and, from there on, those drawn
    generator, lines = torch.Generator().manual_seed(1), [[(t, u) for t, u in row if t < CURRENT_S] for row in rows]
    for k, f in enumerate(found):
        past = [[(t - k * CURRENT_S, u) for t, u in row if t >= k * CURRENT_S] for row in lines]
        again = objective.generate(model, batch_of(past, window_s=WINDOW_S, rate_hz=1000.0), generator)
        assert spikes(again) == spikes(f)
        for row, new in zip(lines, spikes(f), strict=True):
            row += [(t + k * CURRENT_S, u) for t, u in new]


def test_recorded_spikes_of_what_is_drawn_are_not_seen():
    model, objective = made()
    rows = random_rows(2, window_s=0.3, n=60)
    other = [[(t, u) for t, u in row if t < CURRENT_S] for row in rows]
    a, b = ([spikes(f) for f in generate_on(objective, model, windows(r, 4), temperature=0)] for r in (rows, other))
    assert a == b


def test_windows_that_do_not_follow_each_other_are_refused():
    model, objective = made()
    one, two = windows(random_rows(2, window_s=0.3), 1)[0], windows(random_rows(3, window_s=0.3), 1)[0]
    with pytest.raises(DataError, match="other rows"):
        list(generate_on(objective, model, [one, two]))
    for w, at in ((one, 0.0), (two, 0.2)):
        w.start_s = torch.full((len(w),), at)
    late = windows(random_rows(2, window_s=0.3), 1)[0]
    late.start_s = torch.full((2,), 0.2)
    with pytest.raises(DataError, match=r"begins 0\.15 s"):
        list(generate_on(objective, model, [one, late]))
