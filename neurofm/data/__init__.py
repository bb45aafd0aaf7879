"""Shards → batches: storage, splits, windows, transforms, plan, loader. Knows no model."""
