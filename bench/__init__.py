"""Benchmarks: they print ratios measured in one run, never pass or fail by the clock."""
