"""Every figure a report can show, by name."""

from neurofm.report.figures_adaptation import adaptation_curve, curves_from_rows, paired_gains, region_scores
from neurofm.report.figures_decoding import confusion_matrix, time_resolved_accuracy
from neurofm.report.figures_quality import channel_matrix, sensor_positions
from neurofm.report.figures_signals import dataset_overview, traces, training_curves

__all__ = [
    "adaptation_curve",
    "channel_matrix",
    "confusion_matrix",
    "curves_from_rows",
    "dataset_overview",
    "paired_gains",
    "region_scores",
    "sensor_positions",
    "time_resolved_accuracy",
    "traces",
    "training_curves",
]
