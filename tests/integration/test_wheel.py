"""The wheel, installed: the command works from any folder, with its own conf/ and a user's."""

from __future__ import annotations

import os
import site
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


def run(*command, cwd, ok=True):
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        [str(c) for c in command], cwd=cwd, capture_output=True, text=True, env={**environment, "OMP_NUM_THREADS": "1"}
    )
    assert (done.returncode == 0) is ok, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    out = tmp_path_factory.mktemp("dist")
    pytest.importorskip("hatchling")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, ROOT, cwd=out)
    (file,) = out.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """A fresh environment with the wheel; its dependencies are those of this one, without the checkout."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    purelib = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip())
    # a path line adds the packages; editable installs hang on .pth files there, which are not read again
    seen = dict.fromkeys([sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), *site.getsitepackages()])
    (purelib / "borrowed.pth").write_text("\n".join(seen) + "\n")
    run(python, "-m", "pip", "install", "--no-deps", "--no-index", "--force-reinstall", wheel, cwd=folder)
    where = run(python, "-c", "import neurofm; print(neurofm.__file__)", cwd=folder).strip()
    assert Path(where).is_relative_to(folder)
    return folder


def test_content_of_the_wheel(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    confs = {f"neurofm/{p.relative_to(ROOT).as_posix()}" for p in (ROOT / "conf").rglob("*.yaml")}
    assert confs <= set(names)
    assert any(n.endswith("licenses/LICENSE") for n in names)
    assert {n.split("/")[0] for n in names} <= {
        "neurofm",
        "data_prep",
        *(n.split("/")[0] for n in names if "dist-info" in n),
    }
    assert not [n for n in names if "__pycache__" in n or n.startswith(("tests", "scripts", "runs", "shards"))]


def test_help_and_list(installed, tmp_path):
    command = installed / "bin" / "neurofm"
    assert "usage: neurofm VERB" in run(command, "--help", cwd=tmp_path)
    assert "hcp7" in run(command, "list", "datasets", cwd=tmp_path)
    assert "neurofm 0." in run(command, "--version", cwd=tmp_path)


def test_prep_and_own_configuration(installed, tmp_path):
    command = installed / "bin" / "neurofm"
    small = ["dask=none", "dataset.source.n_subjects=2", "dataset.source.duration_s=10", "dataset.source.n_trials=0"]
    assert "2 recordings" in run(command, "prep", "dataset=simulated", *small, cwd=tmp_path)
    assert "nothing changed" in run(command, "prep", "dataset=simulated", *small, cwd=tmp_path)
    own = tmp_path / "my conf"
    (own / "dataset").mkdir(parents=True)
    text = (ROOT / "conf" / "dataset" / "simulated.yaml").read_text()
    (own / "dataset" / "mine.yaml").write_text(text.replace("id: simulated", "id: mine"))
    out = run(command, "prep", "--config-dir", own, "dataset=mine", *small, cwd=tmp_path)
    assert "shards/mine: 2 recordings" in out
    out = run(command, "prep", "--config-dir", own, "dataset=mien", cwd=tmp_path, ok=False)
    assert "did you mean 'mine'" in out
    assert "2 subjects" in run(command, "inspect", "shards/mine", "--verify", cwd=tmp_path)
    assert not (installed / "shards").exists()
