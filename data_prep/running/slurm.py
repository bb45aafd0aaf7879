"""Dask workers as SLURM jobs, through dask-jobqueue."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from neurofm.schema.errors import ConfigError

CHOICES = (
    "n_jobs", "cores", "memory", "walltime", "partition", "account", "interface", "scratch", "log_directory", "prologue",
    "directives",
)  # fmt: skip
# A worker stops taking recordings this long before SLURM would kill its job, and another job takes its place.
MARGIN_S = 300


def slurm_cluster(
    *,
    environment: Mapping[str, str],
    n_jobs: int = 4,
    cores: int = 4,
    memory: str = "16GiB",
    walltime: str = "04:00:00",
    partition: str | None = None,
    account: str | None = None,
    interface: str | None = None,
    scratch: str | None = None,
    log_directory: str | None = None,
    prologue: Sequence[str] = (),
    directives: Sequence[str] = (),
) -> Any:
    """Return a cluster whose workers are SLURM jobs; none is submitted yet.

    Parameters
    ----------
    environment : mapping of str to str
        Variables of every worker.
    n_jobs : int
        Jobs at a time.
    cores, memory : int, str
        Of one job; one worker per core, memory shared equally.
    walltime : str
        ``[days-]hours:minutes:seconds`` of one job. A recording must fit in it; a job that ends is replaced.
    partition, account : str, optional
        As for sbatch ``-p`` and ``-A``.
    interface : str, optional
        Network interface that nodes reach each other by (ib0 …).
    scratch, log_directory : str, optional
        Local disk of a node for Dask, and where the jobs' output goes.
    prologue : sequence of str
        Shell lines before the worker starts (module load …).
    directives : sequence of str
        Further ``#SBATCH`` options.

    Raises
    ------
    ConfigError
        When dask-jobqueue is not installed or a choice makes no sense.
    """
    try:
        from dask_jobqueue import SLURMCluster
    except ImportError as error:
        raise ConfigError("dask=slurm needs dask-jobqueue; install it with: pip install 'neurofm[cluster]'") from error
    for name, value in (("n_jobs", n_jobs), ("cores", cores)):
        if value < 1:
            raise ConfigError(f"dask.{name} is {value}; expected 1 or more")
    lifetime = seconds_of(walltime) - MARGIN_S
    if lifetime <= 0:
        raise ConfigError(f"dask.walltime is {walltime}; expected more than {MARGIN_S // 60} minutes")
    exports = [f"export {name}={shlex.quote(value)}" for name, value in environment.items()]
    return SLURMCluster(
        cores=cores,
        processes=cores,
        memory=memory,
        walltime=walltime,
        queue=partition,
        account=account,
        interface=interface,
        local_directory=scratch,
        log_directory=log_directory,
        job_name="neurofm-prep",
        # MNE's configuration in the home directory is shared by all nodes
        job_script_prologue=[*prologue, *exports, 'export _MNE_FAKE_HOME_DIR="$(mktemp -d)"'],
        job_extra_directives=list(directives),
        worker_extra_args=["--lifetime", f"{lifetime}s", "--lifetime-stagger", f"{min(60, lifetime // 10)}s"],
        scheduler_options={"dashboard": False},
    )


@contextmanager
def slurm_client(*, n_items: int, environment: Mapping[str, str], **choices: Any) -> Iterator[tuple[Any, int]]:
    """Submit jobs, give a client and the number of workers to come, and cancel the jobs at the end.

    Raises
    ------
    ConfigError
        When there is no SLURM on this machine.
    """
    from distributed import Client

    if shutil.which("sbatch") is None:
        raise ConfigError(
            "dask=slurm: there is no sbatch on this machine; start neurofm on a login node of the cluster"
        )
    with slurm_cluster(environment=environment, **choices) as cluster, Client(cluster, set_as_default=False) as client:
        cores = int(choices.get("cores", 4))
        jobs = min(int(choices.get("n_jobs", 4)), -(-n_items // cores))
        # a job whose time is over is replaced as long as there is work
        cluster.adapt(minimum_jobs=jobs, maximum_jobs=jobs)
        yield client, jobs * cores


def seconds_of(walltime: str) -> int:
    """Return ``[days-]hours:minutes:seconds`` in seconds.

    Raises
    ------
    ConfigError
        When it is not of that form.
    """
    found = re.fullmatch(r"(?:(\d+)-)?(\d+):(\d\d):(\d\d)", str(walltime))
    if found is None:
        raise ConfigError(f"dask.walltime is '{walltime}'; expected [days-]hours:minutes:seconds, e.g. 04:00:00")
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds
