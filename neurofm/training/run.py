"""The run folder: a complete account of one training.

runs/<name>/
  config.yaml       the configuration as resolved
  provenance.json   git state, versions, hashes of dataset and split, seeds; one entry more for each time it was continued
  split.json        which spans were for training, which for validation and test
  metrics.csv       every logged figure
  checkpoints/      last.ckpt, best.ckpt, for resuming
  model/            the exported model
  plots/            training curves
  finished.json     written last, with the final figures
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

import neurofm
from neurofm.schema.errors import ConfigError
from neurofm.schema.hashing import atomic_write, hash_of, read_json, write_json

_OWN = (
    "config.yaml", "provenance.json", "split.json", "metrics.csv", "finished.json", "wandb_id.txt",
    "checkpoints", "model", "plots", "wandb",
)  # fmt: skip
_PACKAGES = ("torch", "pytorch-lightning", "numpy", "scipy", "mne", "safetensors", "PyWavelets", "scikit-learn")


class RunFolder:
    """Paths and records of one run; see the module for what lies where.

    Parameters
    ----------
    path : str or Path
        The folder; made if it is not there.
    resume : bool
        Continue what is there.
    overwrite : bool
        Remove an earlier run first; files that are not a run's are never touched.
    owner : bool
        False for all ranks but the first: they look, and leave making, claiming and writing to it.

    Raises
    ------
    ConfigError
        When the folder holds a run already and neither flag is given, holds other files, or cannot be written.
    """

    def __init__(self, path: str | Path, *, resume: bool = False, overwrite: bool = False, owner: bool = True) -> None:
        self.path, self.owner = Path(path), owner
        if resume and overwrite:
            raise ConfigError(f"{self.path}: resume=true and overwrite=true contradict each other; choose one")
        try:
            if owner:
                self._open(resume, overwrite)
        except OSError as error:
            raise ConfigError(
                f"{self.path}: the run folder cannot be written ({error.strerror}); choose another with run_dir=…"
            ) from error
        self.resumed = resume and self.last_checkpoint.exists()

    def _open(self, resume: bool, overwrite: bool) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        # asking the system for its rights is not enough: only a write tells
        with tempfile.TemporaryFile(dir=self.path):
            pass
        self._claim(resume, overwrite)

    def _claim(self, resume: bool, overwrite: bool) -> None:
        present = sorted(p.name for p in self.path.iterdir())
        foreign = [name for name in present if name not in _OWN and not name.startswith(".")]
        if not present or resume:
            return
        if foreign:
            raise ConfigError(f"{self.path}: holds '{foreign[0]}', which is not of a run; choose a new or empty folder")
        if not overwrite:
            if not any(name in _OWN for name in present):
                return
            state = "a finished run" if (self.path / "finished.json").exists() else "an unfinished run"
            raise ConfigError(
                f"{self.path}: holds {state}; choose another name, resume=true to continue it, "
                "or overwrite=true to start again"
            )
        self._remove_own()

    def _remove_own(self) -> None:
        for target in self.path.iterdir():
            if target.name in _OWN:
                shutil.rmtree(target) if target.is_dir() else target.unlink()

    def _logged(self) -> bool:
        """Whether anything stands below the heading of metrics.csv."""
        return self.metrics_path.exists() and len(self.metrics_path.read_text(encoding="utf-8").splitlines()) > 1

    def forget_if_untrained(self) -> None:
        """Remove the run, if this process began it and no step of it was taken."""
        if self.owner and not self.resumed and not self.last_checkpoint.exists() and not self._logged():
            self._remove_own()
            if not any(self.path.iterdir()):
                self.path.rmdir()

    @property
    def name(self) -> str:
        """Last part of the path."""
        return self.path.name

    @property
    def metrics_path(self) -> Path:
        """Every logged figure, one row per step."""
        return self.path / "metrics.csv"

    @property
    def checkpoint_dir(self) -> Path:
        """Where checkpoints for resuming lie."""
        return self.path / "checkpoints"

    @property
    def last_checkpoint(self) -> Path:
        """The newest checkpoint, if the run got that far."""
        return self.checkpoint_dir / "last.ckpt"

    @property
    def model_dir(self) -> Path:
        """Where the exported model goes."""
        return self.path / "model"

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Write the configuration as resolved."""
        with atomic_write(self.path / "config.yaml", "w") as f:
            yaml.safe_dump(dict(config), f, sort_keys=False, allow_unicode=True)

    def write_provenance(
        self, *, config: Mapping[str, Any], data: Mapping[str, Any] | None = None, seed: int = 0, **further: Any
    ) -> dict[str, Any]:
        """Write and return where this run comes from; nothing in it depends on the machine.

        Parameters
        ----------
        config : mapping
            The resolved configuration; its hash is recorded.
        data : mapping, optional
            Hashes of datasets, prep and split, and whatever else says what was trained on.
        seed : int
            Seed of weights, masks and order.
        **further
            What else to record, such as the number of ranks.
        """
        record = {
            "config_hash": hash_of(dict(config)),
            "seed": seed,
            "data": dict(data or {}),
            **further,
            **environment(),
        }
        path = self.path / "provenance.json"
        if self.resumed and path.exists():
            # what the run began with stays; what it was continued with stands beside it
            began = read_json(path)
            again = {k: v for k, v in record.items() if began.get(k) != v}
            record = {**began, "continued": [*began.get("continued", []), again]}
        write_json(path, record)
        return record

    def finish(self, metrics: Mapping[str, float]) -> None:
        """Draw the curves and mark the run as finished."""
        from neurofm.training.plots import plot_training

        if self.metrics_path.exists():
            plot_training(self.metrics_path, self.path / "plots" / "training.png")
        # JSON has no NaN
        write_json(self.path / "finished.json", {k: v if v == v else None for k, v in metrics.items()})


def refuse_if_finished(path: str | Path, *, overwrite: bool) -> None:
    """Refuse a folder that holds a run already, before anything is computed for it.

    Raises
    ------
    ConfigError
        Unless it is absent, empty or may be overwritten.
    """
    path = Path(path)
    if not overwrite and path.is_dir() and any(p.name in _OWN for p in path.iterdir()):
        raise ConfigError(f"{path}: holds a run already; choose another run_dir=…, or overwrite=true to start again")


def environment() -> dict[str, Any]:
    """Return git state and package versions, without anything of the machine."""
    versions = {"python": platform.python_version(), "neurofm": neurofm.__version__}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {"versions": versions, "git": git_state(Path(neurofm.__file__).parent)}


def git_state(folder: Path) -> dict[str, Any] | None:
    """Return commit and whether tracked files differ from it; None outside a repository."""

    def ask(*words: str) -> str | None:
        environ = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
        try:
            done = subprocess.run(
                ["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=10, check=True, env=environ
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip()

    # an installed wheel may lie inside somebody else's repository: only one that tracks the package counts
    commit = ask("rev-parse", "HEAD")
    if commit is None or not ask("ls-files", "__init__.py"):
        return None
    return {"commit": commit, "dirty": bool(ask("status", "--porcelain", "--untracked-files=no"))}
