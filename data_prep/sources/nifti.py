"""Plain 4D NIfTI files found by a glob, with a table of onsets or labels beside them."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from data_prep.layout.naming import compile_pattern, entities, misfit, require_fit
from data_prep.layout.tree import nothing_fits
from data_prep.readers import event_table
from data_prep.readers.fmri_run import Cleaning, fmri_recording
from data_prep.readers.masking import Masking
from data_prep.readers.tables import read_rows
from data_prep.readers.volumes import import_nibabel
from data_prep.sources.base import Item, Source, file_marks, size_of
from neurofm.schema.errors import ConfigError, DataError
from neurofm.schema.hashing import hash_of
from neurofm.schema.recording import Recording

ENDINGS = (".nii.gz", ".nii")
TABLES = (".tsv", ".csv")


class Nifti(Source):
    """Every file under `root` that fits `glob`, as regions or voxels.

    What happened in a run stands in a table (.tsv or .csv) of the same name beside it, ``<run>_events`` or
    ``<run>``: with a column `onset` in seconds (and `duration`, and `trial_type`, `label` or `condition`), or with one
    row per volume and a label. Or in one `table` for all, whose column `file` names the image; with one row per image
    and no onset, its label is that of the whole run. A run without a table has no events.

    Parameters
    ----------
    root : path
        Folder to look in.
    glob : str
        Which files.
    pattern : str, optional
        Where subject, session, task and run stand in the path relative to `root`, e.g.
        ``sub-{subject}/ses-{session}/*_run-{run}.nii.gz``. Files it does not fit are rejected by name. Default: the
        file's name is the subject.
    table : str, optional
        One table for all runs, relative to `root`.
    atlas, mask, labels, resample
        Which voxels become which channels: see `masking.Masking`.
    detrend : int
        Degree of the polynomial taken out of each whole run: 0 = none, 1 = linear, 2 = quadratic.
    tr_s : float, optional
        Repetition time in seconds, against the header.
    """

    name = "nifti"
    id = "nifti"
    modalities = ("fmri",)

    def __init__(
        self,
        *,
        root: str | Path,
        glob: str = "**/*.nii*",
        pattern: str | None = None,
        table: str | None = None,
        atlas: str | None = None,
        mask: str | None = None,
        labels: str | None = None,
        resample: bool = False,
        detrend: int = 0,
        tr_s: float | None = None,
    ) -> None:
        self.root, self.glob, self.table = Path(root).expanduser(), glob, table
        self.pattern, self._compiled = pattern, None if pattern is None else compile_pattern(pattern)
        self.masking = Masking(root=self.root, atlas=atlas, mask=mask, labels=labels, resample=resample)
        self.cleaning = Cleaning(detrend=detrend, tr_s=tr_s)
        self.cleaning.check(self.name)

    def describe(self) -> dict[str, Any]:
        """Return name and choices; the folder's path stays out of the dataset."""
        return {
            "name": self.name,
            "version": self.version,
            "glob": self.glob,
            "pattern": self.pattern or "",
            "table": self.table or "",
            "detrend": self.cleaning.detrend,
            "tr_s": self.cleaning.tr_s,
            **self.masking.describe(),
        }

    def list(self) -> list[Item]:
        """Return one item per image; the atlas and the masks themselves are none."""
        if not self.root.is_dir():
            raise DataError(f"{self.root}: no such folder; set source.root")
        import_nibabel("source 'nifti'")
        self.masking.check(self.name)
        table = None if self.table is None else self.root / self.table
        if table is not None and not table.is_file():
            raise ConfigError(f"source 'nifti': table '{self.table}' is no file under source.root")
        found = []
        paths = sorted(self.root.glob(self.glob))
        if not paths:
            raise nothing_fits(self.root, self.glob)
        require_fit(self.root, self.glob, self.pattern, (p.relative_to(self.root).as_posix() for p in paths))
        for path in paths:
            if path.name.endswith(ENDINGS) and not path.name.startswith("."):
                name = path.relative_to(self.root).as_posix()
                who = entities(name, self._compiled)
                found.append((path, name, who, self.masking.files(who or {})))
        masks = {p.resolve() for _, _, _, files in found for p in files}
        items = []
        for path, name, who, files in found:
            if path.resolve() in masks:
                continue
            events = table or table_beside(path)
            marks = file_marks([path, *files, *([events] if events else [])])
            items.append(
                Item(
                    key=name,
                    fingerprint=hash_of([name, marks]),
                    open=partial(
                        load_nifti, self.root, name, who, self.pattern, self.masking, self.cleaning, events, self.table
                    ),
                    subject=(who or {}).get("subject", ""),
                    session=(who or {}).get("session", ""),
                    source_file=name,
                    n_bytes=size_of(path),
                )
            )
        return items


def stem_of(path: Path) -> str:
    """Return an image's name without its ending."""
    return path.name.removesuffix(".gz").removesuffix(".nii")


def table_beside(image: Path) -> Path | None:
    """Return the table that belongs to an image by its name; None where there is none."""
    stem = stem_of(image)
    names = (f"{stem}_events", f"{stem.removesuffix('_bold')}_events", stem)
    candidates = (image.with_name(n + suffix) for n in names for suffix in TABLES)
    return next((p for p in candidates if p.is_file()), None)


def load_nifti(
    root: Path,
    name: str,
    who: dict[str, str] | None,
    pattern: str | None,
    masking: Masking,
    cleaning: Cleaning,
    events: Path | None,
    table: str | None,
) -> Recording:
    """Read one image.

    Raises
    ------
    DataError
        When its path does not fit the pattern, or image, table and atlas do not fit together.
    """
    if who is None:
        raise DataError(misfit(name, str(pattern)))
    rows = None
    if table is not None and events is not None:
        rows = event_table.rows_of_file(read_rows(events), events, name)
    return fmri_recording(
        root / name,
        dataset="nifti",
        who=who,
        masking=masking,
        cleaning=cleaning,
        events=events,
        event_rows=rows,
        source_file=name,
    )
