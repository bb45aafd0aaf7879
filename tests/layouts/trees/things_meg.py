"""THINGS-MEG (ds004212): the preprocessed epochs in a split file, and raw runs beside their tables."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from neurofm.schema.recording import Recording

from ..expected import Expected, Piece, Tree

N_SENSORS = 271
CATCH = 999999
LAST_CODE = 32
NOUN = "aardvark"


def sensors() -> list[str]:
    """Return 271 names of a CTF-275 helmet."""
    import mne

    return [n[:5] for n in mne.channels.read_layout("CTF275").names if n.startswith("M")][:N_SENSORS]


ATTRIBUTES = (
    "trial_type,image_on,image_off,image_path,image_nr,things_image_nr,category_nr,test_image_nr,session_nr,run_nr"
)


def write_epochs(root: Path) -> Tree:
    """The epochs know the number of an image only; which images are the test's stands in the sample attributes."""
    import mne

    rng = np.random.default_rng(21)
    folder = root / "derivatives/preprocessed"
    folder.mkdir(parents=True)
    (root / "sourcedata").mkdir()
    names, recordings = sensors(), []
    # image 555 is a test image, seen over and over; the large number marks trials without a THINGS image
    ids = {
        "P1": [1, *[555, 26107] * 6, CATCH, *[555, 17, 18] * 3, 40, CATCH, *[555] * 3, 19],
        "P2": [555, CATCH, 1, 40],
    }
    asked = {"P1": [0, 1, 2, 14, len(ids["P1"]) - 1], "P2": [0, 2, 3]}
    for person, images in ids.items():
        ft = rng.normal(0, 100, (len(images), N_SENSORS, 281)).astype(np.float32)
        events = np.array([[240 * i, 0, image] for i, image in enumerate(images)])
        epochs = mne.EpochsArray(
            ft * 1e-15, mne.create_info(names, 200.0, "mag"), events, tmin=-0.1, baseline=None,
            event_id={str(i): i for i in set(images)}, verbose="error",
        )  # fmt: skip
        # the parts are found from the first one; read as files of their own they would count twice
        epochs.save(folder / f"preprocessed_{person}-epo.fif", split_size="4MB", fmt="single", verbose="error")
        rows = [ATTRIBUTES]
        for k, image in enumerate(images):
            kind = {555: "test", CATCH: "catch"}.get(image, "exp")
            path = "images_catch_meg/catch_01.jpg" if image == CATCH else f"images_meg/{NOUN}/{NOUN}_{image:05d}.jpg"
            rows.append(f"{kind},{k:.2f},{k + 0.5:.2f},{path},{k + 1},{image},1,1,1,1")
        (root / f"sourcedata/sample_attributes_{person}.csv").write_text("\n".join(rows) + "\n")
        for part in ("train", "test"):
            mine = [k for k, i in enumerate(images) if i != CATCH and (i == 555) == (part == "test")]
            pieces = [
                Piece(
                    values=ft[k].T, atol=0.01, shown=(0.1, f"image {images[k]}"),
                    events=[(0.1, re.compile(rf"^{NOUN}(_{images[k]:05d})?$"))],
                )
                for k in asked[person]
                if k in mine
            ]  # fmt: skip
            recordings.append(
                Expected(
                    subject=re.compile(rf"{person[1]}$"), session=None, part=part, modality="meg", rate_hz=200,
                    channels=names, kinds=["mag"] * N_SENSORS, units=["fT"] * N_SENSORS, n_samples=[281] * len(mine),
                    pieces=pieces,
                )
            )  # fmt: skip
    assert len(list(folder.glob("preprocessed_P1-epo*.fif"))) == 4
    return Tree(source="things_meg", choices={"root": root, "variant": "preprocessed"}, recordings=recordings)


def make_concepts(root: Path) -> Tree:
    """Epochs of two people: eight concepts with three images each, and three tested images four times; of two of the tested
    concepts there are training images too, as published.
    """
    import mne

    rng = np.random.default_rng(31)
    nouns = ["aardvark", "boat", "chair", "drum", "egg_beater", "fox", "glove", "hat"]
    train = {10 * (i + 1) + k: (noun, f"{noun}_{k + 1:02d}b") for i, noun in enumerate(nouns) for k in range(3)}
    test = {501: ("aardvark", "aardvark_13s"), 502: ("boat", "boat_13s"), 503: ("yacht", "yacht_14s")}
    (root / "derivatives/preprocessed").mkdir(parents=True)
    (root / "sourcedata").mkdir()
    for person in ("P1", "P2"):
        images = rng.permutation([*train, *list(test) * 4, CATCH]).tolist()
        ft = rng.normal(0, 100, (len(images), N_SENSORS, 281)).astype(np.float32)
        events = np.array([[300 * i, 0, image] for i, image in enumerate(images)])
        mne.EpochsArray(
            ft * 1e-15, mne.create_info(sensors(), 200.0, "mag"), events, tmin=-0.1, baseline=None,
            event_id={str(i): i for i in set(images)}, verbose="error",
        ).save(root / f"derivatives/preprocessed/preprocessed_{person}-epo.fif", split_size="6MB", verbose="error")  # fmt: skip
        rows = [ATTRIBUTES]
        for k, image in enumerate(images):
            kind = "test" if image in test else "catch" if image == CATCH else "exp"
            noun, stem = {**train, **test}.get(image, ("", "catch_01"))
            path = f"images_catch_meg/{stem}.jpg" if kind == "catch" else f"images_meg/{noun}/{stem}.jpg"
            rows.append(f"{kind},{k:.2f},{k + 0.5:.2f},{path},{k + 1},{image},1,1,1,1")
        (root / f"sourcedata/sample_attributes_{person}.csv").write_text("\n".join(rows) + "\n")
    return Tree(source="things_meg", choices={"root": root, "variant": "preprocessed"}, recordings=[])


def write_raw(root: Path) -> Tree:
    import mne

    rng = np.random.default_rng(22)
    rate, n = 1200, 6000
    names = sensors()
    others = [f"BG{i}" for i in range(28)] + ["UPPT001"]
    info = mne.create_info([*names, *others], rate, ["mag"] * N_SENSORS + ["ref_meg"] * 28 + ["stim"])
    table, recordings, onsets = [ATTRIBUTES], [], {}
    runs = {
        "01": [("exp", 101, "aardvark/aardvark_01b.jpg"), ("test", 555, "banana/banana_13s.jpg"),
               ("catch", CATCH, "images_catch_meg/catch_01.jpg"), ("exp", 102, "zebra/zebra_02n.jpg")],
        "02": [("test", 555, "banana/banana_13s.jpg"), ("exp", 103, "abacus/abacus_05s.jpg")],
    }  # fmt: skip
    for run, trials in runs.items():
        ft = rng.normal(0, 100, (len(names) + len(others), n)).astype(np.float32)
        code, rows = np.zeros(n), ["onset\tduration\ttrial_type\tvalue\tsample"]
        for i, (kind, image, path) in enumerate(trials):
            at = 600 + 1200 * i
            code[at : at + 60] = 64
            # what the table says comes 150 ms after the trigger
            late = at / rate + 0.15
            # and a few of its numbers differ from those of the attributes, which hold
            value = image + 7 if image == 102 else image
            rows.append(f"{late:.4f}\t0.5\t{kind}\t{value}\t{round(late * rate)}")
            path = path if kind == "catch" else f"images_meg/{path}"
            table.append(f"{kind},{late:.4f},{late + 0.5:.4f},{path},{i + 1},{image},1,1,1,{int(run)}")
            onsets.setdefault(run, {})[at / rate] = kind
        code[-120:-60] = LAST_CODE
        volts = ft * 1e-15
        volts[-1] = code
        stem = root / f"sub-BIGMEG1/ses-01/meg/sub-BIGMEG1_ses-01_task-main_run-{run}"
        stem.parent.mkdir(parents=True, exist_ok=True)
        # the published runs are CTF folders, which nothing here can write
        mne.io.RawArray(volts, info, verbose="error").save(f"{stem}_meg.fif", fmt="single", verbose="error")
        Path(f"{stem}_events.tsv").write_text("\n".join(rows) + "\n")
        piece = Piece(values=ft[:N_SENSORS].T, atol=0.01)
        recordings.append(
            Expected(
                subject="BIGMEG1", session="01", task="main", run=run, modality="meg", rate_hz=rate, channels=names,
                kinds=["mag"] * N_SENSORS, units=["fT"] * N_SENSORS, n_samples=[n], pieces=[piece],
            )
        )  # fmt: skip
    (root / "sourcedata").mkdir()
    (root / "sourcedata/sample_attributes_P1.csv").write_text("\n".join(table) + "\n")
    (root / "dataset_description.json").write_text('{"Name": "THINGS-MEG", "BIDSVersion": "1.7.0"}\n')

    def also(read: list[Recording]) -> None:
        ids = {}
        for r in read:
            given = {round(e.onset_s, 3): e.stimulus_id for e in r.events if e.stimulus_id}
            pictures = [t for t, kind in onsets[r.run].items() if kind != "catch"]
            # at the trigger, not where the table puts them; pictures of a catch trial are none of the images
            assert sorted(given) == [round(t, 3) for t in pictures], (given, pictures)
            ids[r.run] = [given[t] for t in sorted(given)]
        assert ids["01"][1] == ids["02"][0]
        assert len({*ids["01"], *ids["02"]}) == 4
        assert not any("109" in i for i in ids["01"])

    return Tree(source="things_meg", choices={"root": root}, recordings=recordings, also=also)
