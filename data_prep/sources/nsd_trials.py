"""Which picture each trial of the Natural Scenes Dataset showed, counted from 0, and which pictures are the test's.

Everything on disk counts pictures from 1 (responses.tsv, nsd_expdesign.mat) but for the column nsdId of
nsd_stim_info_merged.csv and the stimulus file itself, which count from 0. Here all do.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_prep.readers.mat import read_mat
from data_prep.readers.tables import column_of, need, number, read_rows
from neurofm.schema.errors import DataError

EXPERIMENT = Path("nsddata/experiments/nsd")


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One presentation.

    Attributes
    ----------
    row : int
        Which beta of the session.
    picture : int
        0-based index into the 73,000 pictures.
    run : int
        1-based, within the session; -1 where unknown.
    repeat : int
        How often the subject has seen the picture by now, 1 to 3.
    shared : bool
        One of the 1,000 pictures that everybody saw, the dataset's test part.
    """

    row: int
    picture: int
    run: int
    repeat: int
    shared: bool


def stimulus_id(picture: int) -> str:
    """Return the name of a picture as in the file names of Algonauts 2023: ``nsd-02950``, counted from 0."""
    return f"nsd-{picture:05d}"


def read_design(root: Path) -> dict[str, np.ndarray]:
    """Read nsd_expdesign.mat; {} where it is missing.

    Returns
    -------
    dict
        ``masterordering`` (trial,), ``subjectim`` (subject, picture), ``sharedix`` (picture,): all 1-based, as stored.
    """
    path = root / EXPERIMENT / "nsd_expdesign.mat"
    if not path.is_file():
        return {}
    ordering, shared = (read_mat(path, n).astype(np.int64).ravel() for n in ("masterordering", "sharedix"))
    for name, values in (("masterordering", ordering), ("sharedix", shared)):
        if len(values) and values.min() < 1:
            raise DataError(f"{path.name}: '{name}' holds {values.min()}; expected numbers counted from 1")
    return {"masterordering": ordering, "subjectim": read_mat(path, "subjectim").astype(np.int64), "sharedix": shared}


def shared_pictures(root: Path, design: dict[str, np.ndarray]) -> set[int]:
    """Return the 0-based pictures of the test part, by nsd_expdesign.mat or else nsd_stim_info_merged.csv.

    Raises
    ------
    DataError
        When neither is there.
    """
    if design:
        return {int(i) - 1 for i in design["sharedix"]}
    path = root / EXPERIMENT / "nsd_stim_info_merged.csv"
    if not path.is_file():
        raise DataError(
            f"{EXPERIMENT.as_posix()}: has neither nsd_expdesign.mat nor {path.name}, which say what is the test part"
        )
    rows = read_rows(path)
    need(rows, "nsdId", path)
    need(rows, "shared1000", path)
    yes = ("true", "1")
    return {int(number(r["nsdId"], path, i, "nsdId")) for i, r in enumerate(rows) if r["shared1000"].lower() in yes}


def read_responses(root: Path, subject: int) -> np.ndarray | None:
    """Read a subject's responses.tsv; None where it is missing.

    Returns
    -------
    array, shape (trial, 3), int
        Session and run (from 1) and picture (from 0), in the order of presentation.

    Raises
    ------
    DataError
        When a column is missing or pictures are not counted from 1.
    """
    path = root / f"nsddata/ppdata/subj{subject:02d}/behav/responses.tsv"
    if not path.is_file():
        return None
    rows = read_rows(path)
    columns = []
    for name in ("SESSION", "RUN", "TRIAL", "73KID"):
        column = column_of(rows, (name.lower(),))
        if column is None:
            need(rows, name, path)
        columns.append(str(column))
    cells = np.array([[int(number(r[c], path, i, c)) for c in columns] for i, r in enumerate(rows)]).reshape(-1, 4)
    if len(cells) and cells[:, 3].min() < 1:
        raise DataError(f"{path.name}: 73KID {cells[:, 3].min()} in subj{subject:02d}; expected numbers counted from 1")
    cells = cells[np.lexsort((cells[:, 2], cells[:, 1], cells[:, 0]))]
    return np.stack([cells[:, 0], cells[:, 1], cells[:, 3] - 1], axis=1)


def trials_of(
    responses: np.ndarray | None,
    design: dict[str, np.ndarray],
    shared: set[int],
    *,
    subject: int,
    session: int,
    n_trials: int,
) -> list[Trial]:
    """Return the trials of a session, in the order of its betas.

    Parameters
    ----------
    responses : array or None
        See `read_responses`; checked against the design. Without it the design alone says what was shown.
    design : dict
        See `read_design`.
    shared : set of int
        See `shared_pictures`.
    subject, session : int
        From 1.
    n_trials : int
        Betas of the session.

    Raises
    ------
    DataError
        When they contradict each other or the betas.
    """
    if responses is None:
        stop, runs = session * n_trials, [-1] * (session * n_trials)
        pictures = planned(design, subject, stop)
        if pictures is None:
            raise DataError(f"subj{subject:02d}: neither behav/responses.tsv nor nsd_expdesign.mat says what was shown")
    else:
        mine = np.flatnonzero(responses[:, 0] == session)
        if len(mine) != n_trials:
            raise DataError(f"session {session} has {n_trials} betas, responses.tsv {len(mine)} trials of it")
        stop = int(mine[-1]) + 1
        pictures, runs = responses[:stop, 2].tolist(), responses[:stop, 1].tolist()
        _compare(pictures, planned(design, subject, stop), subject)
    first = stop - n_trials
    seen = Counter(pictures[:first])
    trials = []
    for row, picture in enumerate(pictures[first:]):
        seen[picture] += 1
        trials.append(
            Trial(row=row, picture=picture, run=runs[first + row], repeat=seen[picture], shared=picture in shared)
        )
    return trials


def planned(design: dict[str, np.ndarray], subject: int, n: int) -> list[int] | None:
    """Return the 0-based pictures of a subject's first n trials by nsd_expdesign.mat; None where it does not say."""
    if not design or subject > len(design["subjectim"]) or len(design["masterordering"]) < n:
        return None
    order = design["masterordering"][:n]
    return (
        None
        if order.max() > design["subjectim"].shape[1]
        else (design["subjectim"][subject - 1, order - 1] - 1).tolist()
    )


def _compare(pictures: list[int], plan: list[int] | None, subject: int) -> None:
    """Compare what was shown with the plan: an index that is off by one decodes at chance."""
    for k, (there, wanted) in enumerate(zip(pictures, plan or [], strict=False)):
        if there != wanted:
            raise DataError(
                f"responses.tsv of subj{subject:02d} says picture {there + 1} for trial {k + 1}, nsd_expdesign.mat "
                f"{wanted + 1} (both counted from 1); one of them is of another subject or counted from 0"
            )
