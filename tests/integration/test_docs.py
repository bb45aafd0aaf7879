"""The commands and files of the documentation, run as they stand there (with fewer steps)."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

DOCS = Path(__file__).parents[2] / "docs"
pytestmark = pytest.mark.slow


def commands(name):
    """Lines of the bash blocks of a page."""
    text = (DOCS / name).read_text(encoding="utf-8")
    return [line for block in re.findall(r"```bash\n(.*?)```", text, re.S) for line in block.strip().splitlines()]


def run(line, folder):
    words = shlex.split(line)
    assert words[0] == "neurofm"
    if words[1] == "train":
        words += ["trainer.max_steps=60", "trainer.progress=false"]
    if words[1] == "finetune":
        words += ["loop.steps=20"]
    start = "import sys; from neurofm.cli.main import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", start, *words[1:]], cwd=folder, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(DOCS.parent)]), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"


def test_first_minute(tmp_path):
    for line in commands("index.md"):
        run(line, tmp_path)


@pytest.mark.timeout(1200)  # thirteen commands, each a process of its own
def test_own_recording(tmp_path, monkeypatch):
    import mne

    (tmp_path / "recordings").mkdir()
    rng = np.random.default_rng(0)
    for who in ("anna01", "ben02"):
        # 5 minutes to learn from, a gap, 5 minutes to be tested on
        values = rng.standard_normal((4, 620 * 250)).cumsum(axis=1) * 2e-7
        onsets, side = np.arange(2.0, 618.0, 2.0), rng.integers(0, 2, 308)
        for t, s in zip(onsets, side, strict=True):
            values[2 + s, int(t * 250) : int(t * 250) + 250] += 2e-5 * np.sin(2 * np.pi * 10 * np.arange(250) / 250)
        raw = mne.io.RawArray(values, mne.create_info(["Fp1", "Fp2", "O1", "O2"], 250, "eeg"), verbose="error")
        raw.set_annotations(mne.Annotations(onsets, 1.0, [("left", "right")[s] for s in side]))
        raw.export(tmp_path / f"recordings/{who}.edf", verbose="error")
    for line in commands("own_recording.md"):
        run(line, tmp_path)
    page = (tmp_path / "runs/anna/report-adaptation_curve/report.html").read_text(encoding="utf-8")
    assert "Which strategy at which budget" in page
    decoded = (tmp_path / "runs/anna/full-5-decoded/anna01/decoded.csv").read_text(encoding="utf-8").splitlines()
    assert decoded[0].startswith("start_s,label,p_left,p_right")
    assert len(decoded) > 1000
    monkeypatch.chdir(tmp_path)
    text = (DOCS / "own_recording.md").read_text(encoding="utf-8")
    scope: dict = {}
    exec(re.search(r"```python\n(.*?)```", text, re.S).group(1), scope)
    assert scope["z"].vectors.shape == (620, 64)
    assert not scope["z"].transductive


def test_extending(tmp_path):
    text = (DOCS / "extending.md").read_text(encoding="utf-8")
    files = re.findall(r"`((?:conf/\w+/)?\w+\.(?:py|yaml))`[^`]*?\n\n```(?:python|yaml)\n(.*?)```", text, re.S)
    assert len(files) == 8
    for name, content in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    (tmp_path / "npy").mkdir()
    rng = np.random.default_rng(0)
    for who in "ab":
        np.save(tmp_path / f"npy/{who}.npy", rng.standard_normal((30000, 4)).cumsum(axis=0) * 5e-7)
    for line in commands("extending.md"):
        run(line, tmp_path)
