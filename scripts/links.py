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
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from data_prep.sources.sim_links import Network, make_network
from neurofm.analysis.channel_attention import average, channel_attention, influence
from neurofm.benchmarks.baselines.links import cross_correlation, granger, lasso, var_coefficients
from neurofm.benchmarks.links import LinkScores, link_scores
from neurofm.benchmarks.results import record_script
from neurofm.data.dataset import Dataset
from neurofm.data.splits.rules import make_split
from neurofm.hub.load import load_model
from neurofm.report.content import Report, Section, Table
from neurofm.report.figures_connectome import connectome
from neurofm.report.html import write_report
from neurofm.training.reopen import corpus_of

SPLIT = {"rule": "by_time", "fractions": {"pretrain": 0.8, "test": 0.2}, "gap_s": 1}  # as conf/data/sim_links.yaml
LAGS = 10  # samples that those who do not know the order look back
ATTENTION: dict[str, dict[str, Any]] = {
    "attention": {},
    "attention, past segments only": {"lags": (1, None)},
    "attention, content and channel term": {"normalise": "lag"},
}
Map = NDArray[np.float64]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards", nargs="?", default="shards/sim_links")
    parser.add_argument("--runs", help="folder of runs <network>-seed<n> of experiment=sim_links")
    parser.add_argument("--out", help="folder of a report with a figure per network; needs --runs")
    chosen = parser.parse_args()
    scores: dict[str, list[LinkScores]] = defaultdict(list)
    sections = []
    for subject, network, runs in networks(Dataset(chosen.shards)):
        truth = network.weight != 0
        maps = classical(runs, network.order)
        if chosen.runs:
            of_model, positions = learned(Path(chosen.runs), subject)
            maps |= of_model
            sections.append(section(subject, of_model["influence"], truth, positions))
        for name, score in maps.items():
            scores[name].append(link_scores(score, truth))
        print(f"network {subject}: {int(truth.sum())} links, order {network.order}", flush=True)
    print_table(scores)
    if chosen.out and sections:
        print(write_report(chosen.out, report(scores, sections)))


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


@torch.no_grad()
def learned(runs: Path, subject: str) -> tuple[dict[str, Map], Map]:
    """Return the maps read off the models of one network, averaged over seeds, and where the channels are.

    Windows are of the end of each recording, which was not trained on; heads and layers count alike, for to choose
    among them would be to choose by the answer.
    """
    folders = sorted(runs.glob(f"{subject}-seed*/model"))
    if not folders:
        raise SystemExit(f"{runs}: holds no run {subject}-seed…; make them with scripts/links.sh")
    found: dict[str, list[Map]] = defaultdict(list)
    positions = np.empty(0)
    for folder in folders:
        loaded = load_model(folder)
        corpus = corpus_of(loaded)
        record_script(runs, script="links.py", dataset=corpus.dataset.id, spans=corpus.split["test"])
        loader = corpus.loader("test", loaded.facts, batch_size=64, seed=0, training=False)
        batches = list(loader)
        for name, choices in ATTENTION.items():
            maps = average((channel_attention(loaded.model, b, **choices), len(b)) for b in batches)
            found[name].append(maps.mean((0, 1)).numpy())
        effect = [(influence(loaded.model, loaded.objective, b), len(b)) for b in batches[:: max(1, len(batches) // 4)]]
        found["influence"].append(average(effect).numpy())
        positions = batches[0].positions[0].numpy()
    return {name: np.mean(each, axis=0) for name, each in found.items()}, positions


def section(subject: str, score: Map, truth: Map, positions: Map) -> Section:
    """Show the influence in one network beside what was planted."""
    names = [f"N{i:02d}" for i in range(len(score))]
    drawing = connectome(score, names=names, positions=positions, truth=truth, name=f"links-{subject}")
    caption = "Influence of a channel's past on the predicted next segment; as many arrows as there are planted links."
    return Section(title=f"Network {subject}", drawings=[(drawing, caption)])


def report(scores: Mapping[str, list[LinkScores]], sections: list[Section]) -> Report:
    """Put the table before the figures."""
    columns = ["map", "AUROC, directed", "AUROC, linked at all", "right direction"]
    rows = [[name, *np.mean(each, axis=0)] for name, each in scores.items()]
    table = Table(caption="Mean over networks; the oracle knows the true order.", columns=columns, rows=rows)
    return Report(
        title="Directed links of simulated networks",
        subtitle="attention and influence of a trained MVPFormer beside classical maps",
        sections=[Section(title="Which channel acts on which", tables=[table]), *sections],
    )


def print_table(scores: Mapping[str, list[LinkScores]]) -> None:
    """Print means over networks, and the least and the largest, as Markdown."""
    print("\n| map | AUROC, directed | AUROC, linked at all | right direction |\n| --- | --- | --- | --- |")
    for name, each in scores.items():
        cells = [f"{np.mean(x):.3f} ({min(x):.3f} to {max(x):.3f})" for x in zip(*each, strict=True)]
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
