"""Any scikit-learn estimator or nn.Module, named by its import path in a YAML, as something that fits and predicts.

    models:
      "ridge":   {class: sklearn.linear_model:RidgeClassifier}
      "Riemann": {input: trial, steps: [{class: pyriemann.estimation:Covariances, choices: {estimator: oas}}, …]}
      "mine":    {class: my_net.py:Net, choices: {n_channels: $channels}, training: {epochs: 30}}

An estimator has `fit(x, y)` and `predict(x)`; it is given the training part and, later, the signals of the test part,
never a label of it. A new one is built for every fold, seed and control.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from neurofm.benchmarks.decoding.torch_estimator import TorchEstimator
from neurofm.schema.errors import ConfigError, DataError, nearest

KEYS = ("class", "choices", "input", "steps", "training", "baseline", "note")
INPUTS = ("flat", "trial", "features")


class Shape(NamedTuple):
    """What the data dictate to an estimator; `$channels` and the like in its choices stand for these."""

    channels: int
    samples: int
    rate_hz: float
    classes: int

    def fill(self, value: Any) -> Any:
        """Replace `$name` in nested choices."""
        if isinstance(value, str) and value.startswith("$"):
            if value[1:] not in self._fields:
                raise ConfigError(f"'{value}' is unknown: {nearest(value[1:], self._fields)} (written with $)")
            return getattr(self, value[1:])
        if isinstance(value, Mapping):
            return {k: self.fill(v) for k, v in value.items()}
        return [self.fill(v) for v in value] if isinstance(value, (list, tuple)) else value


def imported(path: str) -> Any:
    """Return what an import path names: `package.module:Name`, `package.module.Name` or `folder/file.py:Name`.

    Raises
    ------
    ConfigError
        When it cannot be imported.
    """
    module, _, name = path.partition(":")
    if not name:
        module, _, name = path.rpartition(".")
    try:
        if module.endswith(".py"):
            spec = importlib.util.spec_from_file_location(Path(module).stem, module)
            if spec is None or spec.loader is None or not Path(module).exists():
                raise ImportError("no such file")
            loaded = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(loaded)
        else:
            loaded = importlib.import_module(module)
        return getattr(loaded, name)
    except (ImportError, AttributeError, ValueError) as error:
        here = Path(f"{module.replace('.', '/')}.py")
        hint = f"; for the file here write '{here}:{name}'" if here.exists() else ""
        raise ConfigError(f"model '{path}' cannot be imported: {error}{hint}") from error


class Estimator:
    """One estimator on examples: shapes its input, keeps its classes.

    Parameters
    ----------
    inner : object
        With `fit` and `predict`.
    flat : bool
        Whether it takes (N, C · T) rather than (N, C, T).
    """

    def __init__(self, inner: Any, *, flat: bool) -> None:
        self.inner, self.flat = inner, flat

    def _shaped(self, x: NDArray) -> NDArray:
        return x.reshape(len(x), -1).astype(np.float64) if self.flat else np.ascontiguousarray(x, dtype=np.float64)

    def fit(self, x: NDArray, y: NDArray) -> Estimator:
        """Learn from training examples, x (N, C, T), y (N,)."""
        self.inner.fit(self._shaped(x), y)
        return self

    def predict(self, x: NDArray) -> NDArray:
        """Classes or values, shape (N,)."""
        return np.asarray(self.inner.predict(self._shaped(x)))

    def scores(self, x: NDArray, classes: Sequence[str]) -> NDArray[np.float64] | None:
        """Increasing functions of class probabilities, shape (N, K) in the order of `classes`; None where it has none."""
        how = next((m for m in ("predict_proba", "decision_function") if hasattr(self.inner, m)), None)
        if how is None:
            return None
        said = np.asarray(getattr(self.inner, how)(self._shaped(x)), dtype=np.float64)
        known = [str(c) for c in self.inner.classes_]
        if said.ndim == 1:
            said = np.stack([-said, said], axis=1)
        out = np.full((len(x), len(classes)), said.min() - 1.0 if said.size else 0.0)
        for k, c in enumerate(classes):
            if c in known:
                out[:, k] = said[:, known.index(c)]
        return out


def check_spec(name: str, spec: Mapping[str, Any]) -> None:
    """Check the keys of a model in a YAML.

    Raises
    ------
    ConfigError
        Naming the nearest key.
    """
    for key in spec:
        if key not in KEYS:
            raise ConfigError(f"model '{name}' has no key '{key}': {nearest(key, KEYS)}")
    if ("class" in spec) == ("steps" in spec):
        raise ConfigError(f"model '{name}' needs either `class`, an import path, or `steps`, a list of them")
    if spec.get("input", "flat") not in INPUTS:
        raise ConfigError(f"model '{name}': input is '{spec['input']}': {nearest(str(spec['input']), INPUTS)}")


def is_random(spec: Mapping[str, Any]) -> bool:
    """Whether a seed changes the model: a network, or an estimator with `random_state`."""
    parts = spec.get("steps") or [spec]
    return any(
        _is_module(f := imported(str(p["class"]))) or "random_state" in inspect.signature(f).parameters for p in parts
    )


def build(name: str, spec: Mapping[str, Any], shape: Shape, *, seed: int) -> Estimator:
    """Build a model that nobody has seen."""
    check_spec(name, spec)
    if "steps" in spec:
        from sklearn.pipeline import make_pipeline

        inner = make_pipeline(*(_made(name, s, shape, seed) for s in spec["steps"]))
        return Estimator(inner, flat=spec.get("input", "flat") == "flat")
    made = _made(name, spec, shape, seed)
    flat = not isinstance(made, TorchEstimator) and not str(spec["class"]).startswith("neurofm")
    return Estimator(made, flat=spec["input"] == "flat" if "input" in spec else flat)


def _is_module(factory: Any) -> bool:
    return inspect.isclass(factory) and issubclass(factory, torch.nn.Module)


def _made(name: str, spec: Mapping[str, Any], shape: Shape, seed: int) -> Any:
    factory = imported(str(spec["class"]))
    choices = shape.fill(dict(spec.get("choices") or {}))
    choices = {
        k: _made(name, v, shape, seed) if isinstance(v, Mapping) and "class" in v else v for k, v in choices.items()
    }
    try:
        known = inspect.signature(factory).parameters
    except (TypeError, ValueError):
        known = {}  # type: ignore[assignment]
    if "random_state" in known:
        choices.setdefault("random_state", seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            made = factory(**choices)
        except TypeError as error:
            raise ConfigError(f"model '{name}': {spec['class']} does not take these choices: {error}") from error
    if isinstance(made, torch.nn.Module):
        return TorchEstimator(made, seed=seed, **dict(spec.get("training") or {}))
    if spec.get("training"):
        raise ConfigError(f"model '{name}': `training` is for networks; {spec['class']} is none")
    if not hasattr(made, "fit"):
        raise ConfigError(f"model '{name}': {spec['class']} is neither a torch.nn.Module nor has it `fit`")
    return made


class Instances:
    """Watch that no model is used twice: a fold must not start where another ended."""

    def __init__(self) -> None:
        # kept alive, so that no address is given out again
        self._seen: list[Any] = []
        self._first: dict[tuple[Any, ...], str] = {}

    def check(self, name: str, estimator: Estimator, shape: Shape, seed: int) -> None:
        """Refuse an estimator that was handed out before, is fitted, or starts elsewhere than its seed says.

        Raises
        ------
        DataError
            Naming the model.
        """
        inner = estimator.inner
        core = inner.module if isinstance(inner, TorchEstimator) else inner
        if any(core is other for other in self._seen):
            raise DataError(f"refused, model '{name}' is the same object in two folds; its `class` must make a new one")
        self._seen.append(core)
        if isinstance(inner, TorchEstimator):
            start = inner.fingerprint()
            if self._first.setdefault((name, shape, seed), start) != start:
                raise DataError(
                    f"refused, model '{name}' starts from other weights in a later fold with the same seed {seed}: it "
                    "carries over what it learned, or draws from a generator of its own"
                )
        elif any(k.endswith("_") and not k.startswith("_") for k in vars(inner)):
            raise DataError(
                f"refused, model '{name}' is fitted before it has seen its fold; its `class` must make a new one"
            )
