import json
import os

import pytest
import torch

from neurofm.hub.load import load_model
from neurofm.hub.resave import save_loaded
from neurofm.hub.save import save_model
from neurofm.objectives import OBJECTIVES
from neurofm.schema.errors import ConfigError, DataError

TRANSFORMS = [{"name": "zscore", "mean": {"c0": 1.5}, "sd": {"c0": 2.0}}]
PROVENANCE = {
    "datasets": [{"id": "demo", "content_hash": "1" * 16, "licence": "CC0", "citation": "Nobody 2020", "hours": 1.25}],
    "subjects": ["1", "2"],
    "split": {"hash": "abcd", "rule": "leave one out"},
    "seed": 0,
    "versions": {"torch": "2"},
}


def save(tiny, folder, **changes):
    model = tiny.model()
    objective = OBJECTIVES.build("masked_region", model, tiny.facts())
    arguments = dict(
        model=model, objective=objective, model_name="mvpformer", model_choices=tiny.choices,
        objective_name="masked_region", objective_choices={}, facts=tiny.facts(), transforms=TRANSFORMS,
        provenance=PROVENANCE, metrics={"val/r2": 0.5, "lost": float("nan")}, description="A test.",
    )  # fmt: skip
    save_model(folder, **(arguments | changes))
    return model, objective


def edit(folder, change):
    card = json.loads((folder / "card.json").read_text())
    change(card)
    (folder / "card.json").write_text(json.dumps(card))


def rehash(folder):
    from neurofm.schema.hashing import sha256_file

    edit(folder, lambda c: c["weights"].update(sha256=sha256_file(folder / "model.safetensors")))


def test_order_of_a_split_survives(tiny, tmp_path):
    # fractions are dealt in their order; sorted by name the test part would come before the training part
    fractions = {"train": 0.8, "validation": 0.1, "test": 0.1}
    save(tiny, tmp_path / "m", provenance={"data": {"split": {"rule": "by_time", "fractions": fractions}}})
    assert list(load_model(tmp_path / "m").card["provenance"]["data"]["split"]["fractions"]) == list(fractions)


def test_what_is_saved_is_what_is_loaded(tiny, tmp_path):
    model, objective = save(tiny, tmp_path / "run" / "model")
    model.eval(), objective.eval()
    hidden = torch.zeros(6, 5, dtype=torch.bool)
    hidden[:, 1] = True
    for folder in (tmp_path / "run" / "model", tmp_path / "run"):
        loaded = load_model(folder)
        got = loaded.objective.predict(loaded.model, tiny.batch(), hidden)
        assert torch.equal(got, objective.predict(model, tiny.batch(), hidden))
        assert loaded.facts == tiny.facts()
        assert loaded.transforms == TRANSFORMS
        assert loaded.card["provenance"] == PROVENANCE
        assert loaded.card["metrics"] == {"val/r2": 0.5}
        assert not loaded.model.training
    assert {p.name for p in (tmp_path / "run" / "model").iterdir()} == {"model.safetensors", "card.json", "README.md"}
    assert {p.name for p in (tmp_path / "run").iterdir()} == {"model"}
    save_loaded(tmp_path / "again", loaded, provenance={**PROVENANCE, "seed": 7}, metrics={"x": 1.0})
    again = load_model(tmp_path / "again")
    assert all(torch.equal(a, b) for a, b in zip(again.model.parameters(), loaded.model.parameters(), strict=True))
    assert again.card["provenance"] == {**PROVENANCE, "seed": 7}


def test_the_readme_says_what_a_person_needs(tiny, tmp_path):
    save(tiny, tmp_path / "m")
    text = (tmp_path / "m" / "README.md").read_text()
    for words in ("A test.", "1.25 hours", "CC0", "Nobody 2020", "2 subjects", "leave one out", "not a medical device",
                  "neurofm.load", "val/r2", "10 Hz", "left, right"):  # fmt: skip
        assert words in text
    assert str(tmp_path) not in text


def test_saving_again_replaces_and_foreign_files_stay(tiny, tmp_path):
    save(tiny, tmp_path / "m")
    save(tiny, tmp_path / "m", description="Second.")
    assert load_model(tmp_path / "m").card["description"] == "Second."
    (tmp_path / "m" / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match=r"notes\.txt"):
        save(tiny, tmp_path / "m", description="Third.")
    assert load_model(tmp_path / "m").card["description"] == "Second."
    assert (tmp_path / "m" / "notes.txt").exists()


def test_nothing_half_written(tiny, tmp_path):
    with pytest.raises(DataError, match="plain values"):
        save(tiny, tmp_path / "m", model_choices={"x": object()})
    model = tiny.model()
    with torch.no_grad():
        model.norm.weight[0] = float("nan")
    with pytest.raises(DataError, match=r"model\.norm\.weight"):
        save(tiny, tmp_path / "m", model=model)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="could not be written"):
        save(tiny, tmp_path / "file" / "m")
    assert {p.name for p in tmp_path.iterdir()} == {"file"}


@pytest.mark.parametrize("where", [10, 500, -3])
def test_a_changed_byte_is_found(tiny, tmp_path, where):
    save(tiny, tmp_path / "m")
    path = tmp_path / "m" / "model.safetensors"
    raw = bytearray(path.read_bytes())
    raw[where] ^= 1
    path.write_bytes(raw)
    with pytest.raises(DataError, match=r"model\.safetensors: .*sha256"):
        load_model(tmp_path / "m")


def test_a_truncated_file_is_found_even_with_a_forged_hash(tiny, tmp_path):
    save(tiny, tmp_path / "m")
    path = tmp_path / "m" / "model.safetensors"
    os.truncate(path, path.stat().st_size - 100)
    with pytest.raises(DataError, match="sha256"):
        load_model(tmp_path / "m")
    rehash(tmp_path / "m")
    with pytest.raises(DataError, match="not a readable safetensors file"):
        load_model(tmp_path / "m")


@pytest.mark.parametrize(
    ("change", "error", "sentence"),
    [
        (lambda c: c.update(schema_version=9), DataError, "schema_version is 9, this neurofm reads 1"),
        (lambda c: c.pop("schema_version"), DataError, "schema_version is None"),
        (lambda c: c.pop("facts"), DataError, "field 'facts' is missing"),
        (lambda c: c["model"].update(name="mvpforner"), ConfigError, "did you mean 'mvpformer'"),
        (lambda c: c["model"].update(name="os:system"), ConfigError, "only use registered names"),
        (lambda c: c["model"]["choices"].update(dimm=3), ConfigError, "no argument 'dimm'"),
        (lambda c: c["model"]["choices"].update(dim=32), DataError, r"has shape \(3, 1, 8\), the card's model needs"),
        (lambda c: c["model"]["choices"].update(n_layers=3), DataError, r"tensor 'model\.blocks\.2.*missing"),
        (lambda c: c["model"]["choices"].update(n_layers=1), DataError, r"tensor 'model\.blocks\.1.*unexpected"),
    ],
)
def test_cards_that_do_not_fit(tiny, tmp_path, change, error, sentence):
    save(tiny, tmp_path / "m")
    edit(tmp_path / "m", change)
    with pytest.raises(error, match=sentence):
        load_model(tmp_path / "m")


def test_missing_files(tiny, tmp_path):
    with pytest.raises(DataError, match=r"card\.json: no such file"):
        load_model(tmp_path)
    save(tiny, tmp_path / "m")
    (tmp_path / "m" / "model.safetensors").unlink()
    with pytest.raises(DataError, match="incomplete"):
        load_model(tmp_path / "m")
    (tmp_path / "m" / "card.json").write_text("{")
    with pytest.raises(DataError, match="not readable as JSON"):
        load_model(tmp_path / "m")


def test_own_classes_by_import_path_only_when_allowed(tiny, tmp_path):
    save(tiny, tmp_path / "m", model_name="neurofm.models.mvpformer:MVPFormer")
    with pytest.raises(ConfigError, match="allow_import"):
        load_model(tmp_path / "m")
    assert load_model(tmp_path / "m", allow_import=True).model.dim == 16


def test_fresh_weights_are_new_and_keyed(tiny, tmp_path):
    save(tiny, tmp_path / "m")
    loaded = load_model(tmp_path / "m")
    state = torch.random.get_rng_state()
    a, b, c = loaded.fresh(seed=1), loaded.fresh(seed=1), loaded.fresh(seed=2)
    assert torch.equal(state, torch.random.get_rng_state())
    weight = [x.model.blocks[0].attention.query.weight for x in (loaded, a, b, c)]
    assert torch.equal(weight[1], weight[2])
    assert not torch.equal(weight[1], weight[3])
    assert not torch.equal(weight[1], weight[0])
