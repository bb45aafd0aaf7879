"""`import neurofm` and `neurofm --help` answer at once, without the heavy packages."""

import subprocess
import sys

HEAVY = ("torch", "mne", "pytorch_lightning", "hydra", "wandb", "sklearn", "matplotlib", "transformers", "pyarrow")


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_import_is_light():
    out = run(f"import sys, neurofm; print([m for m in {HEAVY} if m in sys.modules])")
    assert out.strip() == "[]"


def test_import_takes_under_a_second():
    code = "import time; t = time.perf_counter(); import neurofm; print(time.perf_counter() - t)"
    assert min(float(run(code)) for _ in range(3)) < 1.0


def test_help_is_light():
    out = run(
        "import sys; from neurofm.cli.main import main; main(['--help']);"
        f"print([m for m in {HEAVY} if m in sys.modules])"
    )
    assert out.strip().endswith("[]")
    assert "prep" in out
