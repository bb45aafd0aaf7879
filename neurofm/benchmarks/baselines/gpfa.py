"""Gaussian-process factor analysis of square-rooted counts (Yu et al. 2009), and plain factor analysis of smoothed ones."""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import redirect_stdout

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neurofm.benchmarks.baselines.smoothing import gaussian
from neurofm.schema.errors import ConfigError, NeurofmError, nearest

ENGINES = ("factor_analysis", "elephant")


class Gpfa:
    """Latent trajectories of trials.

    Parameters
    ----------
    n_latents : int
        Dimensions.
    bin_s : float
        Width of the bins that counts come in.
    sd_s : float
        Of the Gaussian that counts are smoothed with ("factor_analysis").
    engine : str
        "factor_analysis": smoothing, square root, scikit-learn's factor analysis; seconds. "elephant": GPFA with learned
        time constants, by expectation–maximisation (extra `spikes`); minutes, cubic in the bins of a trial.
    max_iter : int
        Of EM ("elephant").
    """

    def __init__(
        self, *, n_latents: int = 8, bin_s: float = 0.02, sd_s: float = 0.05, engine: str = "factor_analysis",
        max_iter: int = 50,
    ) -> None:  # fmt: skip
        if engine not in ENGINES:
            raise ConfigError(f"GPFA: engine '{engine}' is unknown: {nearest(str(engine), ENGINES)}")
        self.n_latents, self.bin_s, self.sd_s = int(n_latents), float(bin_s), float(sd_s)
        self.engine, self.max_iter = engine, int(max_iter)
        self._model: object | None = None

    def fit(self, counts: Sequence[ArrayLike]) -> Gpfa:
        """Learn from trials of counts (bin, unit)."""
        trials = [np.asarray(c, np.float64) for c in counts]
        # a unit that never fires has no variance to explain, and breaks the factorisation
        self._kept = np.concatenate(trials).var(0) > 0
        if self.engine == "elephant":
            self._model = self._elephant()
            # it prints what it does whatever it is told
            with redirect_stdout(io.StringIO()):
                self._model.fit(self._trains(trials))  # type: ignore[attr-defined]
        else:
            from sklearn.decomposition import FactorAnalysis

            self._model = FactorAnalysis(self.n_latents, random_state=0).fit(
                np.concatenate([self._smooth(c) for c in trials])
            )
        return self

    def transform(self, counts: Sequence[ArrayLike]) -> list[NDArray[np.float64]]:
        """Latents of trials, (bin, latent) each."""
        if self._model is None:
            raise NeurofmError("GPFA: transform was called before fit")
        trials = [np.asarray(c, np.float64) for c in counts]
        if self.engine == "elephant":
            said = self._model.transform(self._trains(trials))  # type: ignore[attr-defined]
            return [np.asarray(z, np.float64).T for z in said]
        return [self._model.transform(self._smooth(c)) for c in trials]  # type: ignore[attr-defined]

    def _smooth(self, counts: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.sqrt(gaussian(counts[:, self._kept], sd_bins=self.sd_s / self.bin_s))

    def _elephant(self) -> object:
        try:
            import quantities as pq
            from elephant.gpfa import GPFA
        except ImportError as error:
            raise ConfigError(
                "GPFA: engine 'elephant' needs the extra 'spikes' (pip install neurofm[spikes]), or choose engine=factor_analysis"
            ) from error
        return GPFA(bin_size=self.bin_s * pq.s, x_dim=self.n_latents, em_max_iters=self.max_iter, verbose=False)

    def _trains(self, trials: Sequence[NDArray[np.float64]]) -> list[list[object]]:
        """Counts as elephant wants them: a spike train per unit, its spikes spread within their bins."""
        import neo
        import quantities as pq

        out = []
        for counts in trials:
            stop_s = len(counts) * self.bin_s
            row: list[object] = []
            for unit in counts[:, self._kept].T:
                n = np.rint(unit).astype(np.int64)
                first = np.repeat(np.arange(len(n)), n)
                place = np.concatenate([(np.arange(k) + 0.5) / k for k in n[n > 0]]) if n.any() else np.zeros(0)
                row.append(neo.SpikeTrain((first + place) * self.bin_s * pq.s, t_start=0 * pq.s, t_stop=stop_s * pq.s))
            out.append(row)
        return out
