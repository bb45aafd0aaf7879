"""Shards → batches: index, splits, windows, transforms, plan, loader. Knows no model."""
