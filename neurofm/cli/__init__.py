"""The `neurofm` command: verbs as Hydra apps, and three plain tables."""
