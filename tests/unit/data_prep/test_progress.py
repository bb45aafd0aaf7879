"""The live view counts recordings, hours per minute and rejections."""

from __future__ import annotations

import io
import time

from rich.console import Console

from data_prep.running import progress


def test_the_view_says_how_far_and_how_fast(monkeypatch):
    out = io.StringIO()
    monkeypatch.setattr(progress, "Console", lambda stderr: Console(file=out, force_terminal=True, width=140))
    clock = iter([0.0, 30.0, 60.0])
    with monkeypatch.context() as patch:
        patch.setattr(progress.time, "monotonic", lambda: next(clock, 60.0))
        bar = progress.Progress(title="mine", total=5, done=2, show=True)
    with bar:
        monkeypatch.setattr(bar, "_began", time.monotonic() - 30)
        bar.advance("a", None, hours=2.0)
        bar.advance("b", "is empty")
    said = out.getvalue()
    assert "4/5" in said
    assert "rejected b: is empty" in said
    assert "1 rejected" in said
    assert "h/min" in said
    pace = float(bar.pace().split()[0])
    assert 3.5 < pace <= 4.0
