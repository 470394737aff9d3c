"""Runnable examples, one per feature; `python -m examples.NAME`. The tests run them all."""
