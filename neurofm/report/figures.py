"""Every figure a report can show, by name."""

from neurofm.report.figures_adaptation import adaptation_curve, curves_from_rows, paired_gains, region_scores
from neurofm.report.figures_decoding import confusion_matrix, time_resolved_accuracy
from neurofm.report.figures_signals import dataset_overview, traces, training_curves

__all__ = [
    "adaptation_curve",
    "confusion_matrix",
    "curves_from_rows",
    "dataset_overview",
    "paired_gains",
    "region_scores",
    "time_resolved_accuracy",
    "traces",
    "training_curves",
]
