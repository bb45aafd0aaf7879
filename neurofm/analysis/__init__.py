"""State, structure and geometry methods over the same shards. Empty so far."""
