"""Counts of calls that clients report (LRS): kept in time buckets, with who reported, and summed up for a span."""
