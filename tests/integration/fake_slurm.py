"""A scheduler of one file, for tests: `sbatch`, `srun`, `sacct` and `scontrol` by the name it is called with.

A job starts at once on this machine; its tasks get the variables that srun sets, and are listed in FAKE_SLURM/pids.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

HOME = Path(os.environ["FAKE_SLURM"])


def start(job, restarts):
    """Run each task of an array (or the one job) in the background, as slurmd would."""
    script = HOME / f"{job}.sh"
    text = script.read_text()
    options = dict(re.findall(r"^#SBATCH --([\w-]+)=(.*)$", text, re.M))
    per_node, nodes = int(options.get("ntasks-per-node", 1)), int(options.get("nodes", 1))
    array = re.match(r"0-(\d+)", options.get("array", ""))
    for point in range(int(array.group(1)) + 1) if array else [None]:
        env = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "SUBMITIT_", "MASTER_"))}
        env |= {
            "SLURM_JOB_ID": str(job), "SLURM_JOB_NAME": options["job-name"], "SLURM_NTASKS": str(per_node * nodes),
            "SLURM_NTASKS_PER_NODE": str(per_node), "SLURM_JOB_NUM_NODES": str(nodes), "SLURM_NNODES": str(nodes),
            "SLURM_JOB_NODELIST": "localhost", "SLURM_NODELIST": "localhost", "MASTER_ADDR": "127.0.0.1",
        }  # fmt: skip
        if point is not None:
            env |= {"SLURM_ARRAY_JOB_ID": str(job), "SLURM_ARRAY_TASK_ID": str(point), "SLURM_JOB_ID": str(job + point)}
        if restarts:
            env["SLURM_RESTART_COUNT"] = str(restarts)
        with open(HOME / "log.txt", "a") as log:
            subprocess.Popen(["bash", str(script)], env=env, stdout=log, stderr=log, start_new_session=True)


def sbatch(path):
    job = 1000 + 10 * len(list(HOME.glob("*.sh")))
    (HOME / f"{job}.sh").write_text(Path(path).read_text())
    start(job, 0)
    print(f"Submitted batch job {job}")


def srun(*words):
    command = [w for w in words if not w.startswith("--")]
    # --output and --error come as a word and its value
    command = command[next(i for i, w in enumerate(command) if "python" in w) :]
    tasks = []
    for rank in range(int(os.environ["SLURM_NTASKS"])):
        env = {**os.environ, "SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank), "SLURM_NODEID": "0"}
        tasks.append(subprocess.Popen(command, env=env))
        with open(HOME / "pids", "a") as f:
            f.write(f"{tasks[-1].pid}\n")
    return max(t.wait() != 0 for t in tasks)


def sacct(*words):
    print("JobID|State|NodeList")
    jobs = [w for w in words if re.fullmatch(r"[\d_]+", w)]
    for job in jobs:
        print(f"{job}|RUNNING|localhost")


def scontrol(verb, job):
    assert verb == "requeue"
    with open(HOME / "requeued", "a") as f:
        f.write(f"{job}\n")
    start(int(job.partition("_")[0]), 1)


if __name__ == "__main__":
    sys.exit(globals()[Path(sys.argv[0]).name](*sys.argv[1:]))
