"""From raw recordings to shards: sources, stages, and the writer. Reads the outside world; no torch here."""
