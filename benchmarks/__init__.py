"""Benchmarks: every comparison of shared/measure.md, side by side with its alternatives in one run.

Run: `make bench`, or `python -m benchmarks [b1 b2 b3 b7] [--quick] [--json DIR]`. Ratios count: absolute times are
those of the machine that the report names.
"""
