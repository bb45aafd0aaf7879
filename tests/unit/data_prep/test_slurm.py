"""SLURM jobs: the script says what was asked for, and recordings go through one where sbatch is a stand-in."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from data_prep.pipeline import prepare
from data_prep.running.executor import WORKER_ENVIRONMENT, run_items
from data_prep.running.slurm import seconds_of, slurm_cluster
from data_prep.sources.base import Item
from neurofm.schema.errors import ConfigError

pytest.importorskip("dask_jobqueue")

ASKED = {
    "n_jobs": 2, "cores": 8, "memory": "32GiB", "walltime": "1-02:30:00", "partition": "long", "account": "lab",
    "scratch": "/scratch/me", "log_directory": "logs", "prologue": ["module load python"], "directives": ["--qos=high"],
}  # fmt: skip


def test_the_job_script_says_what_was_asked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with slurm_cluster(environment=WORKER_ENVIRONMENT, **ASKED) as cluster:
        lines = cluster.job_script().splitlines()
    assert lines[0].startswith("#!")
    for option in (
        "-J neurofm-prep", "-p long", "-A lab", "-n 1", "--cpus-per-task=8", "--mem=32G", "-t 1-02:30:00", "--qos=high",
        "-e logs/neurofm-prep-%J.err",
    ):  # fmt: skip
        assert f"#SBATCH {option}" in lines, option
    start = lines.index("module load python")
    assert lines[start + 1 : start + 1 + len(WORKER_ENVIRONMENT)] == [
        f"export {k}={v}" for k, v in WORKER_ENVIRONMENT.items()
    ]
    command = lines[-1] if lines[-1] else lines[-2]
    for part in ("distributed.cli.dask_worker", "--nworkers 8", "--nthreads 1", "--memory-limit 4.00GiB",
                 "--local-directory /scratch/me", f"--lifetime {26 * 3600 + 1800 - 300}s"):  # fmt: skip
        assert part in command, part


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"walltime": "4h"}, "hours:minutes:seconds"),
        ({"walltime": "00:04:00"}, "more than 5 minutes"),
        ({"n_jobs": 0}, "n_jobs is 0"),
    ],
)
def test_wrong_choices(choices, message):
    with pytest.raises(ConfigError, match=message):
        slurm_cluster(environment={}, **choices)


def test_walltimes():
    assert seconds_of("04:00:00") == 4 * 3600
    assert seconds_of("2-00:00:30") == 2 * 86400 + 30


def test_without_slurm_and_with_unknown_keys(monkeypatch):
    item = Item(key="a", fingerprint="a", open=lambda: None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ConfigError, match="no sbatch on this machine"):
        list(run_items(str, [item], "slurm"))
    with pytest.raises(ConfigError, match="did you mean 'walltime'"):
        list(run_items(str, [item], {"kind": "slurm", "waltime": "1"}))


SBATCH = """#!/bin/bash
# keeps a copy of the script and runs it at once, in a process group of its own, and answers as sbatch does
cp "${@: -1}" {log}.sh
setsid bash {log}.sh > {log} 2>&1 &
echo $! >> {pids}
echo "Submitted batch job $!"
"""


@pytest.mark.timeout(60)
def test_recordings_go_through_a_job(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    for name, text in (("sbatch", SBATCH), ("scancel", '#!/bin/bash\nkill -- -"$1" 2>/dev/null || true\n')):
        text = text.replace("{log}", str(tmp_path / "log")).replace("{pids}", str(tmp_path / "pids"))
        (bin_folder / name).write_text(text)
        (bin_folder / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{bin_folder}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    source = {"name": "simulated", "n_subjects": 2, "duration_s": 5, "n_trials": 2}
    slurm = {"kind": "slurm", "n_jobs": 1, "cores": 1, "memory": "1GiB", "interface": "lo"}
    report = prepare(source=source, out=tmp_path / "a", dask=slurm, progress=False)
    assert len((tmp_path / "pids").read_text().split()) == 1
    here = prepare(source=source, out=tmp_path / "b", dask="none", progress=False)
    assert report.totals == here.totals
    assert (tmp_path / "a" / "dataset.json").read_bytes() == (tmp_path / "b" / "dataset.json").read_bytes()
