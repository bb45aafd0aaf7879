"""Figures and self-contained HTML of a dataset, a run or a benchmark. See `content` for what a report is made of."""
