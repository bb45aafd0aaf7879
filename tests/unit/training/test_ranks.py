"""Two processes that train together over gloo give what one gives; a killed one costs nothing."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from neurofm.schema.errors import ConfigError
from neurofm.training.loggers import read_metrics
from neurofm.training.parallel import strategy_of
from neurofm.training.ranks import Ranks, ranks_of, refuse_nested, was_requeued

WORKER = Path(__file__).parent / "ranks_worker.py"
ROOT = Path(__file__).parents[3]


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def start(folder, *, world_size=1, strategy="auto", resume=False, stop_after=0):
    """Run the worker as torchrun would start it; return the exit statuses."""
    port, ranks = free_port(), []
    for rank in range(world_size):
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        if world_size > 1:
            env |= {
                "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world_size), "GROUP_RANK": "0",
                "LOCAL_WORLD_SIZE": str(world_size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
                "TORCHELASTIC_RUN_ID": "test",
            }  # fmt: skip
        argv = [sys.executable, str(WORKER), str(folder), strategy, "resume" if resume else "fresh", str(stop_after)]
        ranks.append(subprocess.Popen(argv, env=env, stderr=subprocess.PIPE, text=True))
    errors = [p.communicate(timeout=200)[1] for p in ranks]
    codes = [p.returncode for p in ranks]
    assert stop_after or codes == [0] * world_size, "\n".join(errors)[-4000:]
    return codes


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone") / "run"
    start(folder)
    return folder


def curve(folder):
    return [row["train/loss"] for row in read_metrics(folder / "metrics.csv")]


@pytest.mark.parametrize("strategy", ["auto", pytest.param("fsdp2", marks=pytest.mark.slow)])
def test_two_ranks_follow_the_curve_of_one(alone, tmp_path, strategy):
    """At equal global batch, to float tolerance; with whole weights (DDP) and with sharded ones (FSDP2)."""
    folder = tmp_path / "run"
    start(folder, world_size=2, strategy=strategy)
    one, two = curve(alone), curve(folder)
    assert len(one) == len(two) == 20
    assert two == pytest.approx(one, rel=2e-5)
    assert abs(one[0] - one[-1]) > 0.05 * one[0], "nothing was learned, so the comparison says nothing"
    a, b = load_file(alone / "end.safetensors"), load_file(folder / "end.safetensors")
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=1e-3, atol=1e-4)
    # the checkpoint is one file that opens safely and holds whole weights
    state = torch.load(folder / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
    assert {n: tuple(t.shape) for n, t in state.items() if n in a} == {n: tuple(t.shape) for n, t in a.items()}


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["auto", "fsdp2"])
def test_kill_9_of_one_rank_costs_nothing(tmp_path, strategy):
    """Restarted, two ranks end with the very weights and metrics of a run that nobody disturbed."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    start(whole, world_size=2, strategy=strategy)
    codes = start(broken, world_size=2, strategy=strategy, stop_after=13)
    assert codes[1] == -9
    assert codes[0] != 0, "the rank left behind must end, and not well"
    assert not (broken / "finished.json").exists()
    start(broken, world_size=2, strategy=strategy, resume=True)
    a, b = load_file(whole / "end.safetensors"), load_file(broken / "end.safetensors")
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert curve(whole) == curve(broken)


def test_ranks_are_told_by_whoever_started_the_processes(monkeypatch):
    for name in (
        "RANK",
        "WORLD_SIZE",
        "LOCAL_RANK",
        "NODE_RANK",
        "SLURM_PROCID",
        "SLURM_NTASKS",
        "TORCHELASTIC_RUN_ID",
    ):
        monkeypatch.delenv(name, raising=False)
    assert ranks_of({"devices": 1}) == Ranks(0, 1, False)
    # Lightning's own children: LOCAL_RANK and WORLD_SIZE, never RANK
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert ranks_of({"devices": 2, "num_nodes": 1}) == Ranks(1, 2, False)
    monkeypatch.setenv("NODE_RANK", "1")
    assert ranks_of({"devices": 2, "num_nodes": 2}) == Ranks(3, 4, False)
    assert ranks_of({"devices": [4, 5, 6], "num_nodes": 2}) == Ranks(4, 6, False)
    # torchrun
    for name, value in {"TORCHELASTIC_RUN_ID": "x", "RANK": "5", "WORLD_SIZE": "6"}.items():
        monkeypatch.setenv(name, value)
    assert ranks_of({"devices": 3, "num_nodes": 2}) == Ranks(5, 6, True)
    with pytest.raises(ConfigError, match="torchrun started 6 processes"):
        ranks_of({"devices": 3})
    # srun comes first: inside a job of SLURM it is srun that starts the processes
    for name, value in {
        "SLURM_PROCID": "3", "SLURM_NTASKS": "4", "SLURM_NTASKS_PER_NODE": "2", "SLURM_JOB_NAME": "neurofm",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    assert ranks_of({"devices": 2, "num_nodes": 2}) == Ranks(3, 4, True)
    with pytest.raises(ConfigError, match="srun started 4 processes"):
        ranks_of({"devices": 1})
    # an interactive allocation starts nothing by itself
    monkeypatch.setenv("SLURM_JOB_NAME", "bash")
    monkeypatch.delenv("TORCHELASTIC_RUN_ID")
    monkeypatch.setenv("NODE_RANK", "0")
    assert ranks_of({"devices": 2}) == Ranks(1, 2, False)


def test_wrong_choices():
    with pytest.raises(ConfigError, match="did you mean 'fsdp2'"):
        strategy_of("fsdp", world_size=2, accelerator="cpu")
    with pytest.raises(ConfigError, match="devices is 'two'"):
        ranks_of({"devices": "two"})


def test_sweeps_and_foreign_programs_start_no_processes():
    refuse_nested(sweeping=True, ranks=Ranks(0, 1, False), relaunchable=False)
    refuse_nested(sweeping=True, ranks=Ranks(0, 4, True), relaunchable=False)
    with pytest.raises(ConfigError, match="one job per point"):
        refuse_nested(sweeping=True, ranks=Ranks(0, 2, False), relaunchable=True)
    with pytest.raises(ConfigError, match="repeating the command"):
        refuse_nested(sweeping=False, ranks=Ranks(0, 2, False), relaunchable=False)
    refuse_nested(sweeping=False, ranks=Ranks(0, 2, False), relaunchable=True)


def test_a_job_knows_that_it_was_requeued(monkeypatch):
    monkeypatch.delenv("SLURM_RESTART_COUNT", raising=False)
    assert not was_requeued()
    monkeypatch.setenv("SLURM_RESTART_COUNT", "2")
    assert was_requeued()
