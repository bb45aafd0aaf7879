"""Figures and self-contained HTML of a dataset, a run or a benchmark. See `content` for what a report is made of."""

from neurofm.schema.registry import Registry

RUN_REPORTS = Registry(
    "report",
    {
        "spectrogram": "neurofm.report.spectrogram:write_spectrogram_report",
        "tokenizer": "neurofm.report.tokenizer:write_tokenizer_report",
    },
)
"""Name, as `Objective.report` says it → function(run folder) → the page it wrote."""
