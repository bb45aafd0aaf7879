"""Protocols, metrics, classical baselines, leakage audit, statistics and the record of results, on numpy arrays."""
