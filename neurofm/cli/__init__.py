"""The `neurofm` command: verbs as Hydra apps, and two plain tables."""
