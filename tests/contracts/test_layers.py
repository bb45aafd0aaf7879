"""The dependency direction of the design, held by reading every import."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# room → rooms it may import (itself always)
NN = {"nn", "schema"}
MODELS = {"models", "tokenizers", *NN}
TRAINING = {"training", "hub", "objectives", "data", *MODELS}
BENCHMARKS = {"benchmarks", "analysis", "adapt", *TRAINING}
ALLOWED = {
    "schema": {"schema"},
    "nn": NN,
    "tokenizers": {"tokenizers", *NN},
    "models": MODELS,
    "objectives": {"objectives", *MODELS},
    "hub": {"hub", "objectives", *MODELS},
    "data": {"data", "schema"},
    "stimuli": {"stimuli", "schema"},
    "training": TRAINING,
    "adapt": {"adapt", *TRAINING},
    "benchmarks": BENCHMARKS - {"analysis"},
    "analysis": BENCHMARKS - {"benchmarks"},
    "report": {"report", *BENCHMARKS},
    "api": {"api", "report", "stimuli", "data_prep", *BENCHMARKS},
    "cli": {"cli", "api", "report", "stimuli", "data_prep", *BENCHMARKS},
    "data_prep": {"data_prep", "schema"},
}
# heavy or outside-world packages and the only rooms that may import them
ONLY_IN = {
    "mne": {"data_prep"}, "mne_bids": {"data_prep"}, "nilearn": {"data_prep"}, "nibabel": {"data_prep"},
    "pynwb": {"data_prep"}, "h5py": {"data_prep"}, "dask": {"data_prep"}, "distributed": {"data_prep"},
    "hydra": {"cli"}, "pyarrow": {"schema"},
}  # fmt: skip
NEVER = {"pickle", "dill", "joblib", "cloudpickle"}
FILES = sorted([*ROOT.glob("neurofm/**/*.py"), *ROOT.glob("data_prep/**/*.py")])


def room(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return "data_prep" if parts[0] == "data_prep" else parts[1]


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            found.add(node.module or "")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_follow_the_design(path):
    here = room(path)
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "data_prep" or (parts[0] == "neurofm" and len(parts) > 1):
            target = "data_prep" if parts[0] == "data_prep" else parts[1]
            if here != "__init__":
                assert target in ALLOWED[here], f"{here} may not import {name}"
        if parts[0] in ONLY_IN:
            assert here in ONLY_IN[parts[0]], f"{parts[0]} belongs in {ONLY_IN[parts[0]]}, not in {here}"
        assert parts[0] not in NEVER, f"{parts[0]}: a stranger's file could run code"
    if here == "data_prep":
        assert "torch" not in {n.split(".")[0] for n in imports(path)}, "data_prep knows no torch"


def test_every_room_is_in_the_table():
    rooms = {room(p) for p in FILES} - {"__init__"}
    assert rooms <= set(ALLOWED)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_nothing_is_unpickled(path):
    text = path.read_text()
    assert "allow_pickle=True" not in text
    assert "weights_only=False" not in text
