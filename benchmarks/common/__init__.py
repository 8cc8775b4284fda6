"""Records, tables and machine descriptions that the benchmarks share."""
