"""The data of a model that was trained before, through its own transforms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from neurofm.data.corpus import Corpus, open_corpus
from neurofm.data.transforms.base import Compose, transform_from_json
from neurofm.hub.load import LoadedModel
from neurofm.schema.errors import ConfigError


def corpus_of(
    loaded: LoadedModel,
    *,
    data: Mapping[str, Any] | None = None,
    task: Mapping[str, Any] | None = None,
    transforms: str = "fitted",
) -> Corpus:
    """Open the data that a model was trained on, or others, through the model's own transforms.

    Parameters
    ----------
    loaded : LoadedModel
        Its card says which data and task it was trained on; they are the defaults.
    data, task : mapping, optional
        As in `conf/data` and `conf/task`.
    transforms : str
        "fitted": those of the model, with what they learned in pretraining. "fresh": the same, untaught.
    """
    own = loaded.card["provenance"]
    known = {d["id"]: d["content_hash"] for d in own.get("datasets", [])}
    if transforms == "fitted":
        through: Any = Compose(transforms=[transform_from_json(t) for t in loaded.transforms])
    else:
        through = [{"name": t["name"], **t["choices"]} for t in loaded.transforms]
    corpus = open_corpus(data or own["data"], task or own["task"], transforms=through)
    manifest = corpus.dataset.manifest
    if known.get(manifest.id, manifest.content_hash) != manifest.content_hash:
        raise ConfigError(
            f"{corpus.dataset.path}: content is {manifest.content_hash}, the model saw {known[manifest.id]} under the same "
            f"id '{manifest.id}'; prepare the dataset as it was, or give the new one another id"
        )
    return corpus
