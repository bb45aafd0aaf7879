"""Windows → batches: the order of an epoch, the readers, and what comes back from them."""
