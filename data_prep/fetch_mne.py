"""Public sets that mne itself knows how to fetch, for `download=true`."""

from __future__ import annotations

from pathlib import Path

from neurofm.schema.errors import ConfigError, DataError

# people whose nights were lost
LOST = {39, 68, 69, 78, 79}
WHERE = {
    "physionet_mi": "https://physionet.org/content/eegmmidb/1.0.0",
    "sleep_edf": "https://physionet.org/content/sleep-edfx/1.0.0",
}


def mne_fetch(source: str, root: Path, subjects: list[int] | None) -> None:
    """Fetch a set's files that are not there yet.

    Parameters
    ----------
    source : str
        "physionet_mi" or "sleep_edf" (the cassette study).
    root : Path
        Folder they go to, made when it is missing; mne adds one of its own below it.
    subjects : list of int, optional
        Default all.

    Raises
    ------
    ConfigError
        When a subject is unknown.
    DataError
        When there is no network, or a file came out damaged.
    """
    known = list(range(1, 110)) if source == "physionet_mi" else [s for s in range(83) if s not in LOST]
    wanted = known if subjects is None else list(subjects)
    if unknown := sorted(set(wanted) - set(known)):
        raise ConfigError(f"source '{source}': there is no subject {unknown[0]}; there are {known[0]} to {known[-1]}")
    try:
        root.mkdir(parents=True, exist_ok=True)
        if source == "physionet_mi":
            from mne.datasets import eegbci

            eegbci.load_data(wanted, list(range(1, 15)), path=root, update_path=False, verbose="error")
        else:
            from mne.datasets.sleep_physionet import age

            age.fetch_data(wanted, path=root, on_missing="ignore", verbose="error")
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(
            f"{source}: could not be fetched, is there a network? mne says: {type(error).__name__}: {reason}; or "
            f"put the files from {WHERE[source]} into source.root and leave download=true out"
        ) from error
