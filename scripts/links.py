"""Which channel acts on which? Maps of directed influence against the planted links of `dataset=sim_links`.

    neurofm prep dataset=sim_links
    python scripts/links.py shards/sim_links                        # the oracle and the baselines
    bash scripts/links.sh                                           # trains a model per network, then all maps, report

Every baseline sees the part that the model is trained on, values and nothing else. The oracle is told the true order.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from data_prep.sources.sim_links import Network, make_network
from neurofm.benchmarks.baselines.links import cross_correlation, granger, lasso, var_coefficients
from neurofm.benchmarks.links import LinkScores, link_scores
from neurofm.data.index import Dataset
from neurofm.data.split_rules import make_split

SPLIT = {"rule": "by_time", "fractions": {"pretrain": 0.8, "test": 0.2}, "gap_s": 1}  # as conf/data/sim_links.yaml
LAGS = 10  # samples that those who do not know the order look back
Map = NDArray[np.float64]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards", nargs="?", default="shards/sim_links")
    chosen = parser.parse_args()
    scores: dict[str, list[LinkScores]] = defaultdict(list)
    for subject, network, runs in networks(Dataset(chosen.shards)):
        for name, score in classical(runs, network.order).items():
            scores[name].append(link_scores(score, network.weight != 0))
        print(f"network {subject}: {int((network.weight != 0).sum())} links, order {network.order}", flush=True)
    print_table(scores)


def networks(dataset: Dataset) -> Iterator[tuple[str, Network, list[Map]]]:
    """Yield each network, what is planted in it, and the recordings' training parts, (time, channel)."""
    split = make_split(dataset, **SPLIT)
    for subject in dataset.subjects:
        of_subject = [s for s in split["pretrain"] if dataset.subject(s.recording_id) == subject]
        runs = [
            dataset.read(s.recording_id, s.start_s, round((s.stop_s - s.start_s) * dataset.rate_hz(s.recording_id)))
            for s in of_subject
        ]
        yield subject, make_network(dataset.manifest.prep["source"], int(subject)), [np.asarray(r) for r in runs]


def classical(runs: list[Map], order: int) -> dict[str, Map]:
    """Return the maps of the oracle and of the baselines."""
    return {
        "oracle: Granger, true order": granger(runs, order=order),
        "VAR coefficients": var_coefficients(runs, order=LAGS),
        "lasso (scikit-learn)": lasso(runs, order=LAGS),
        "VAR(1) coefficients": var_coefficients(runs, order=1),
        "lagged cross-correlation": cross_correlation(runs, max_lag=LAGS),
    }


def print_table(scores: Mapping[str, list[LinkScores]]) -> None:
    """Print means over networks, and the least and the largest, as Markdown."""
    print("\n| map | AUROC, directed | AUROC, linked at all | right direction |\n| --- | --- | --- | --- |")
    for name, each in scores.items():
        cells = [f"{np.mean(x):.3f} ({min(x):.3f} to {max(x):.3f})" for x in zip(*each, strict=True)]
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
