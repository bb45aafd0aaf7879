"""The README's commands, run as they stand there (with fewer steps)."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"
pytestmark = [pytest.mark.slow, pytest.mark.network]


def test_the_commands_run(tmp_path):
    from data_prep.fetch import cache_dir

    blocks = re.findall(r"```bash\n(.*?)```", README.read_text(encoding="utf-8"), re.S)
    lines = [line for block in blocks for line in block.strip().splitlines()]
    assert len(lines) >= 6
    env = {**os.environ, "OMP_NUM_THREADS": "1", "NEUROFM_CACHE": str(cache_dir())}
    start = "import sys; from neurofm.cli.main import main; sys.exit(main())"
    for line in lines:
        words = shlex.split(line)
        assert words[0] == "neurofm"
        if words[1] == "train":
            words.append("trainer.max_steps=41")
        done = subprocess.run(
            [sys.executable, "-c", start, *words[1:]], cwd=tmp_path, env=env, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    assert (tmp_path / "runs/report-hcp7/report.html").exists()
