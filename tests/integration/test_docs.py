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
    start = "import sys; from neurofm.cli.main import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", start, *words[1:]], cwd=folder, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"


def test_first_minute(tmp_path):
    for line in commands("index.md"):
        run(line, tmp_path)


def test_own_recording(tmp_path, monkeypatch):
    import mne

    (tmp_path / "recordings").mkdir()
    rng = np.random.default_rng(0)
    for who in ("anna01", "ben02"):
        values = rng.standard_normal((4, 40 * 250)).cumsum(axis=1) * 2e-6
        info = mne.create_info(["Fp1", "Fp2", "O1", "O2"], 250, "eeg")
        mne.io.RawArray(values, info, verbose="error").export(tmp_path / f"recordings/{who}.edf", verbose="error")
    for line in commands("own_recording.md"):
        run(line, tmp_path)
    monkeypatch.chdir(tmp_path)
    text = (DOCS / "own_recording.md").read_text(encoding="utf-8")
    scope: dict = {}
    exec(re.search(r"```python\n(.*?)```", text, re.S).group(1), scope)
    assert scope["z"].vectors.shape == (40, 64)
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
