"""Where metrics go: always to metrics.csv, on request also to Weights & Biases."""

from __future__ import annotations

import csv
import netrc
import os
import uuid
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only

from neurofm.schema.errors import ConfigError, nearest
from neurofm.schema.hashing import atomic_write

_STEP = "step"


class CsvLogger(Logger):
    """Metrics as one table, a row per logged step; a resumed run continues it without repeats.

    Parameters
    ----------
    path : Path
        The file; rewritten as a whole only when a new column appears.
    resume_at : int
        Rows after this step are dropped first: they come from work that was lost.
    """

    def __init__(self, path: Path, *, resume_at: int = 0) -> None:
        super().__init__()
        self.path = path
        self._rows = [r for r in read_metrics(path) if r[_STEP] <= resume_at] if path.exists() else []
        self._columns = [_STEP, *sorted({k for r in self._rows for k in r} - {_STEP})]
        self._file: Any = None

    @property
    def name(self) -> str:
        """Lightning asks for it."""
        return "csv"

    @property
    def version(self) -> str:
        """Lightning asks for it."""
        return ""

    @rank_zero_only
    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: the run folder holds the configuration."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Append one row; metrics of the same step share it."""
        # Lightning numbers the step being taken from 0; a person counts the steps done
        row_step = (step or 0) + 1
        values = {k: float(v) for k, v in metrics.items() if k != "epoch"}
        new = [k for k in values if k not in self._columns]
        merge = bool(self._rows) and self._rows[-1][_STEP] == row_step
        if merge:
            self._rows[-1].update(values)
        else:
            self._rows.append({_STEP: row_step, **values})
        if new or merge or self._file is None:
            self._columns += sorted(new)
            self._rewrite()
        else:
            csv.DictWriter(self._file, self._columns).writerow(self._rows[-1])
            self._file.flush()

    def _rewrite(self) -> None:
        if self._file is not None:
            self._file.close()
        with atomic_write(self.path, "w") as f:
            writer = csv.DictWriter(f, self._columns)
            writer.writeheader()
            writer.writerows(self._rows)
        self._file = self.path.open("a", encoding="utf-8", newline="")  # closed by finalize

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None


def read_metrics(path: Path) -> list[dict[str, float]]:
    """Read metrics.csv as rows of what was logged at each step."""
    with open(path, encoding="utf-8", newline="") as f:
        rows = [{k: float(v) for k, v in row.items() if k and v not in ("", None)} for row in csv.DictReader(f)]
    return [{**row, _STEP: int(row[_STEP])} for row in rows if _STEP in row]


def wandb_logged_in() -> bool:
    """Whether W&B could be used without asking for a key."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return netrc.netrc().authenticators("api.wandb.ai") is not None
    except (OSError, netrc.NetrcParseError):
        return False


def wandb_logger(folder: Path, *, mode: str = "auto", project: str = "neurofm") -> Logger | None:
    """Return a W&B logger for the run in `folder`, or None when it is off; never asks anything.

    Parameters
    ----------
    folder : Path
        The run folder; keeps the run's id, so that a resumed run continues the same one.
    mode : str
        ``auto``: online when logged in, else offline. ``online``, ``offline``, ``off``.
    project : str
        W&B project.
    """
    modes = ("auto", "online", "offline", "off")
    if mode not in modes:
        raise ConfigError(f"logger.mode='{mode}' is unknown; {nearest(mode, modes)}")
    if mode == "off" or os.environ.get("WANDB_MODE") == "disabled":
        return None
    if mode == "online" and not wandb_logged_in():
        raise ConfigError("logger.mode=online needs a W&B login: run `wandb login` first, or use mode=offline")
    from pytorch_lightning.loggers import WandbLogger

    id_file = folder / "wandb_id.txt"
    if not id_file.exists():
        with atomic_write(id_file, "w") as f:
            f.write(uuid.uuid4().hex[:8])
    return WandbLogger(
        name=folder.name,
        save_dir=folder,
        id=id_file.read_text(encoding="utf-8").strip(),
        project=project,
        offline=mode == "offline" or not wandb_logged_in(),
        resume="allow",
    )
