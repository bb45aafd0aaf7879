"""Print what is known and what classical decoders reach on the new people of simulated motor imagery, before any model.

neurofm prep dataset=sim_motor_imagery && python scripts/motor_imagery_bars.py [PATH]
"""

from __future__ import annotations

import sys

import numpy as np

from data_prep.sources.sim_motor_imagery import SimMotorImagery
from data_prep.sources.sim_motor_oracle import oracle
from neurofm.benchmarks.baselines.trial_pipelines import OF_COVARIANCES, trial_baseline
from neurofm.benchmarks.results import record_script
from neurofm.data.dataset import Dataset
from neurofm.data.splits.rules import make_split
from neurofm.schema.hashing import read_json

BUDGETS = (2, 5, 10, 20)
BAND_HZ = (8.0, 30.0)


def main(path: str = "shards/sim_motor_imagery", results: str = "runs") -> None:
    """Print a table: one line per person and one of means; the looks at the test are counted in `results`."""
    dataset = Dataset(path)
    source = read_json(f"{path}/dataset.json")["prep"]["source"]
    known = SimMotorImagery(**{k: v for k, v in source.items() if k in SimMotorImagery().choices}).choices
    seconds = {n: 2 * n * known["trial_s"] for n in BUDGETS}
    rule = {"rule": "by_subject", "test": 10, "seed": 0, "budgets_s": seconds, "test_s": 160.0}
    people = sorted({dataset.subject(s.recording_id) for s in make_split(dataset, rule="by_subject", test=10)["test"]})
    header = [f"{bar}, {n}" for bar in OF_COVARIANCES for n in BUDGETS]
    print("| person | " + " | ".join(header) + " | knows the sources |\n|" + "---|" * (len(header) + 2))
    rows = []
    for person in people:
        split = make_split(dataset, **rule, subject=person)
        record_script(results, script="motor_imagery_bars.py", dataset=dataset.id, spans=split["test"])
        test, truth = trials(dataset, split["test"])
        row = []
        for bar in OF_COVARIANCES:
            for n in BUDGETS:
                train, labels = trials(dataset, split[f"calibration-{n}"])
                said = trial_baseline(bar, train, labels, test, rate_hz=known["rate_hz"], band_hz=BAND_HZ)
                row.append(float((np.unique(labels)[said.argmax(1)] == truth).mean()))
        rows.append([*row, oracle(known, int(person))])
        print(f"| {person} | " + " | ".join(f"{v:.3f}" for v in rows[-1]) + " |", flush=True)
    print("| mean | " + " | ".join(f"{v:.3f}" for v in np.mean(rows, axis=0)) + " |")


def trials(dataset: Dataset, spans: list) -> tuple[np.ndarray, np.ndarray]:
    """Trials (trial, channel, time) and their labels."""
    values, labels = [], []
    for s in spans:
        n = round((s.stop_s - s.start_s) * dataset.rate_hz(s.recording_id))
        values.append(dataset.read(s.recording_id, s.start_s, n).T)
        labels += [e["label"] for e in dataset.events(s.recording_id) if s.start_s - 1e-6 <= e["onset_s"] < s.stop_s]
    return np.stack(values), np.array(labels)


if __name__ == "__main__":
    main(*sys.argv[1:])
