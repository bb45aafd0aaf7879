"""Shards as they lie on disk or at a URL, read by offset or as a stream."""
