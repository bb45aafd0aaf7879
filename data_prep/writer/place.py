"""Where a prepared dataset goes: a folder, or an fsspec URL (see `place_remote`)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from data_prep.writer.lock import only_one
from data_prep.writer.shards import clear, is_whole, publish
from neurofm.schema.errors import ConfigError
from neurofm.schema.hashing import read_json, sha256_file


class Place:
    """A dataset's home.

    Attributes
    ----------
    name : str
        For messages.
    work : Path
        Local folder for unfinished work: receipts and fragments, which survive a kill, and packed shards.
    """

    name: str
    work: Path

    def hold(self) -> AbstractContextManager[None]:
        """Keep every other preparation out while the block runs."""
        raise NotImplementedError

    def notes(self) -> dict[str, Any] | None:
        """Return ``{"run_key", "totals", "whole"}`` of the dataset that stands there; None when there is none."""
        raise NotImplementedError

    def publish(self, new: Path) -> None:
        """Put the finished dataset in `new` in its place; dataset.json appears last."""
        raise NotImplementedError

    def abandon(self) -> None:
        """Remove what was made here for a dataset that never came to be."""
        raise NotImplementedError


def place_of(out: str | Path, work: str | Path | None) -> Place:
    """Return the place that `out` names.

    Raises
    ------
    ConfigError
        When `work` is given for a local folder, or no driver for the URL is installed.
    """
    text = str(out)
    for scheme in ("file://", "local://"):
        # a local file system keeps all promises, so it is never gone at through a URL
        text = text.removeprefix(scheme)
    if "://" in text:
        from data_prep.writer.place_remote import RemotePlace

        return RemotePlace(text, work=work)
    if work is not None:
        raise ConfigError("work is for an output URL; a local folder holds its unfinished work itself")
    return LocalPlace(Path(text))


def require_replaceable(place: Place, run_key: str, *, overwrite: bool) -> dict[str, float] | None:
    """Return the totals of the dataset at `place` when it is the wanted one and whole; None = to be made.

    Raises
    ------
    ConfigError
        When another dataset stands there and may not be overwritten.
    """
    there = place.notes()
    if there is None:
        return None
    same = there["run_key"] == run_key
    if same and there["whole"]:
        return there["totals"]
    if not same and not overwrite:
        raise ConfigError(
            f"{place.name}: holds a dataset prepared with other settings or from other files; "
            "pass overwrite=true to replace it or choose another output folder"
        )
    return None


class LocalPlace(Place):
    """A folder on a disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = str(folder)
        self.work = folder / ".staging"
        self._was_there = folder.exists()

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Hold a lock that the operating system releases when its holder dies."""
        with only_one(self.folder, self.work):
            yield

    def notes(self) -> dict[str, Any] | None:
        """Return what stands there; see `Place.notes`."""
        dataset, receipt = self.folder / "dataset.json", self.folder / "receipt.json"
        if not dataset.exists():
            return None
        noted = read_json(receipt) if receipt.exists() else {}
        whole = noted.get("dataset_sha256") == sha256_file(dataset) and is_whole(self.folder)
        stimuli = self.folder / "stimuli"
        whole = whole and all((stimuli / name).is_file() for name in noted.get("stimuli", {}))
        return {
            "run_key": noted.get("run_key"),
            "whole": whole,
            "totals": read_json(dataset)["totals"] if whole else {},
        }

    def publish(self, new: Path) -> None:
        """Rename each file to its place."""
        publish(new, self.folder)

    def abandon(self) -> None:
        """Remove the working folder, and the folder itself when it was not there before."""
        clear(self.work)
        if not self._was_there:
            self.folder.rmdir()
