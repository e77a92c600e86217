"""Metrics on plain arrays, exactly as the benchmarks define them."""
