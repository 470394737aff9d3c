"""Processes that the benchmarks start: each reads one JSON object a line and answers one a line (`stdio`)."""
