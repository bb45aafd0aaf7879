"""`cluster=slurm` without a scheduler: the generated job, ranks from srun, a sweep, and a preempted job that goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from neurofm.cli.main import main

FAKE = Path(__file__).parent / "fake_slurm.py"
SOURCE = dict(n_subjects=2, n_channels=4, n_sources=2, duration_s=120, rate_hz=50, noise=0.3, n_trials=0)
TRAIN = [
    "train", "data=simulated", "held_out=02", "task=windows_1s", "objective=masked_region", "objective.hide_fraction=[0.1,0.3]",
    "model.patch_samples=10", "model.dim=16", "model.n_layers=1", "model.ffn_dim=16", "model.dropout=0.1",
    "model.causal=false", "+model.mask_token=true", "optim.warmup_steps=2", "trainer.progress=false",
    "trainer.max_steps=60", "trainer.checkpoint_every=1000", "trainer.validate_every=1000", "batch_size=4",
]  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with shards, a fake scheduler, and the environment that finds it first."""
    folder, before = tmp_path_factory.mktemp("cluster"), Path.cwd()
    home = folder / "slurm"
    (home / "bin").mkdir(parents=True)
    for name in ("sbatch", "srun", "sacct", "scontrol"):
        tool = home / "bin" / name
        tool.write_text(f'#!/bin/sh\nexec {sys.executable} {home}/bin/py/{name} "$@"\n')
        tool.chmod(0o755)
        (home / "bin" / "py").mkdir(exist_ok=True)
        (home / "bin" / "py" / name).write_text(FAKE.read_text())
    os.chdir(folder)
    try:
        assert (
            main(["prep", "dataset=simulated", "dask=none", *(f"dataset.source.{k}={v}" for k, v in SOURCE.items())])
            == 0
        )
        yield folder
    finally:
        os.chdir(before)


def command(place, *words, home=None, wait=True, **env):
    path = f"{place}/slurm/bin:{os.environ['PATH']}"
    root = Path(__file__).parents[2]
    full = {**os.environ, "PATH": path, "FAKE_SLURM": str(home or place / "slurm"), "PYTHONPATH": str(root), **env}
    process = subprocess.Popen(
        [sys.executable, "-m", "neurofm.cli.main", *words], env=full, cwd=place, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    if not wait:
        return process
    said, _ = process.communicate(timeout=240)
    return process.returncode, said


def logs(place, home):
    files = [home / "log.txt", *sorted((place / "runs/.multirun").rglob("*.err"))]
    return "\n".join(f.read_text()[-2000:] for f in files if f.exists())


@pytest.mark.slow
def test_ranks_come_from_srun(place):
    home = place / "two"
    home.mkdir()
    status, said = command(
        place, *TRAIN, "cluster=slurm", "trainer.devices=2", "cluster.partition=brain", "name=two", home=home
    )
    assert status == 0, said + logs(place, home)
    (job,) = home.glob("*.sh")
    text = job.read_text()
    for line in (
        "--ntasks-per-node=2",
        "--nodes=1",
        "--partition=brain",
        "--time=1440",
        "--signal=USR2@120",
        "--job-name=neurofm",
    ):
        assert f"#SBATCH {line}" in text, text
    assert "--gpus-per-node" not in text
    assert len((home / "pids").read_text().split()) == 2
    assert (place / "runs/two/model/model.safetensors").exists()
    # two processes of Lightning's own make the same weights: who starts them does not matter
    status, said = command(place, *TRAIN, "trainer.devices=2", "name=own")
    assert status == 0, said
    a, b = (load_file(place / f"runs/{n}/model/model.safetensors") for n in ("two", "own"))
    assert all(np.array_equal(a[k], b[k]) for k in a)


@pytest.mark.slow
def test_a_sweep_is_one_job_per_point(place):
    home = place / "sweep"
    home.mkdir()
    status, said = command(
        place, *TRAIN, "cluster=slurm", "seed=0,1", "name=s${seed}", "trainer.max_steps=3", home=home
    )
    assert status == 0, said + logs(place, home)
    assert "#SBATCH --array=0-1" in next(iter(home.glob("*.sh"))).read_text()
    assert all((place / f"runs/s{i}/model/card.json").exists() for i in (0, 1))
    # a job that fails says so to whoever waits for it
    status, said = command(place, *TRAIN, "cluster=slurm", "name=s0", "trainer.max_steps=3", home=home)
    assert status != 0
    assert "holds a finished run" in said


@pytest.mark.slow
def test_a_preempted_job_loses_nothing(place):
    """The warning comes between two checkpoints; the requeued job goes on and ends with the undisturbed weights."""
    long = "trainer.max_steps=2000"
    assert main([*TRAIN, long, "name=straight"]) == 0
    home = place / "preempted"
    home.mkdir()
    waiting = command(place, *TRAIN, long, "cluster=slurm", "name=preempted", "overwrite=true", home=home, wait=False)
    metrics = place / "runs/preempted/metrics.csv"
    deadline = time.monotonic() + 120
    while not metrics.exists() and waiting.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(int((home / "pids").read_text().split()[0]), signal.SIGUSR2)
    said, _ = waiting.communicate(timeout=240)
    assert waiting.returncode == 0, said + logs(place, home)
    assert (home / "requeued").exists(), "the warning came too late to test anything"
    a, b = (load_file(place / f"runs/{n}/model/model.safetensors") for n in ("straight", "preempted"))
    assert all(np.array_equal(a[k], b[k]) for k in a)


def test_a_sweep_does_not_nest_with_child_processes(place, capsys):
    assert main([*TRAIN, "--multirun", "seed=0,1", "trainer.devices=2", "name=n${seed}"]) == 1
    assert "one job per point" in capsys.readouterr().err
    # and a program that calls a training cannot be started again by it
    assert main([*TRAIN, "trainer.devices=2", "name=n"]) == 1
    assert "repeating the command" in capsys.readouterr().err
    assert not (place / "runs/n").exists()
