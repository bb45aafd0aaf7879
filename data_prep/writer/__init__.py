"""What is written: segments into fragments, fragments into shards, whole or not at all, here or at a URL."""
