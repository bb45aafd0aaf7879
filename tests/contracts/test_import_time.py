"""`import neurofm` and `neurofm --help` answer at once, without the heavy packages."""

import subprocess
import sys

import pytest

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


@pytest.mark.parametrize(
    "line",
    [
        "train data=simulated data.path=/nowhere held_out=04", "finetune checkpoint=/nowhere", "evaluate runs=/nowhere",
        "embed checkpoint=/nowhere", "decode checkpoint=/nowhere source=x.edf",
    ],
)  # fmt: skip
def test_a_wrong_path_is_said_before_anything_heavy_is_imported(line):
    heavy = [m for m in HEAVY if m != "hydra"]
    code = f"import sys; from neurofm.cli.main import main; main({line.split()}); print([m for m in {heavy} if m in sys.modules])"
    assert run(code).strip() == "[]"
