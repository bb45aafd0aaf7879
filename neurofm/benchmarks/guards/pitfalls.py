"""The pitfalls of decoding benchmarks, and what this package does about each.

refuse   an evaluation stops, unless `allow_leak=REASON`; a test plants the fault and sees it caught
control  a column of the table: the benchmark again with the signal, or the labels, taken away
report   a line of the report
"""

from __future__ import annotations

from typing import Literal, NamedTuple


class Pitfall(NamedTuple):
    """One pitfall.

    Attributes
    ----------
    name : str
    mark : str
        What is done about it.
    by : str
        Where: a function as ``module:name``, or the words of a control or a line.
    test : str
        Test that plants it; "" where nothing is refused.
    """

    name: str
    mark: Literal["refuse", "control", "report"]
    by: str
    test: str = ""


PITFALLS = (
    Pitfall("overlapping windows, or windows of one trial, in training and test", "refuse", "guards.audit:overlaps", "test_overlapping_windows"),
    Pitfall("training comes nearer to the test than the split promises", "refuse", "guards.audit:audit", "test_gap_that_is_not_kept"),
    Pitfall("the same person in training and test", "refuse", "guards.audit:audit", "test_person_on_both_sides"),
    Pitfall("label constant within a block that training and test share", "refuse", "guards.folds:blocks", "test_block_design"),
    Pitfall("time alone tells the label", "control", "time_only"),
    Pitfall("the same stimulus in training and test", "refuse", "guards.folds:stimuli", "test_repeated_stimulus"),
    Pitfall("early stopping or choice of epoch on the test part", "refuse", "data.corpus:Corpus.loader", "test_training_on_the_test_part"),
    Pitfall("looking at a test part until it fits", "report", "looks at the test part, counted in results.parquet"),
    Pitfall("averaging over repetitions hides single trials", "report", "kind retrieval: a curve over repetitions"),
    Pitfall("the gallery changes the figure", "report", "kind retrieval: the gallery is part of the protocol's hash"),
    Pitfall("hubs and few-class bias in retrieval", "report", "kind retrieval: median rank, reciprocal rank, per concept"),
    Pitfall("whitening, scaling, alignment, vocabularies or PCA fitted on test data", "refuse", "data.splits.spans:require_inside", "test_fit_on_the_test_part"),
    Pitfall("a transform that looks at whole recordings", "report", "the word transductive, at every such score"),
    Pitfall("folds that share a model instance", "refuse", "decoding.estimators:Instances", "test_folds_that_share_a_model"),
    Pitfall("pretraining corpus that contains the test part", "refuse", "decoding.probe:audit_checkpoint", "test_pretraining_on_the_test_part"),
    Pitfall("pretraining on the tested recording under another name", "refuse", "guards.audit:audit", "test_pretraining_on_a_copy"),
    Pitfall("pretraining on a corpus that holds the tested people", "refuse", "decoding.probe:audit_checkpoint", "test_pretraining_on_a_corpus_that_holds_the_test"),
    Pitfall("pretraining on a banned session", "refuse", "decoding.probe:audit_checkpoint", "test_pretraining_on_a_banned_session"),
    Pitfall("splits that come out different each time", "refuse", "guards.folds:same_twice", "test_split_that_changes"),
    Pitfall("a split file edited by hand", "refuse", "data.splits.files:read_rule", "test_split_file_that_was_edited"),
    Pitfall("picking a seed", "report", "fewer than three seeds; mean over seeds; paired test over people"),
    Pitfall("class imbalance hidden by accuracy", "report", "balanced accuracy, kappa, weighted F1, both areas by default"),
    Pitfall("classes balanced by copies before the split", "refuse", "guards.folds:same_values", "test_copies_made_before_the_split"),
    Pitfall("a test part with a window twice", "refuse", "guards.folds:repeated", "test_window_twice_in_the_test"),
    Pitfall("eye movements, muscles", "control", "eog_only; other models never see channels of these kinds"),
    Pitfall("the prior of text, image or class does the work", "control", "permute_signal, noise"),
    Pitfall("wrong units", "refuse", "guards.folds:units", "test_wrong_unit"),
    Pitfall("values that are not finite, padding and gaps", "refuse", "guards.folds:finite", "test_values_that_are_not_finite"),
    Pitfall("damaged trials dropped in silence", "report", "rejected.parquet, listed under the corpus"),
    Pitfall("parts of a model that never learn", "report", "a test over all models and objectives: every parameter moves"),
    Pitfall("shuffled labels above chance", "control", "shuffle; p by permutation, uniform by a test over 200 runs"),
)  # fmt: skip


def table() -> str:
    """Return the table as Markdown, for docs/evaluation.md."""
    lines = ["| pitfall | | by |", "| --- | --- | --- |"]
    lines += [f"| {p.name} | {p.mark} | {'`' + p.by + '`' if p.mark == 'refuse' else p.by} |" for p in PITFALLS]
    return "\n".join(lines)
