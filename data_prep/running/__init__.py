"""How preparation runs: one function over many recordings, in processes, under a scheduler, one run per folder."""
