"""The small prepared datasets of tests/unit/data, for the benchmarks that read shards."""

from tests.unit.data.conftest import trials

__all__ = ["trials"]
