"""Frozen values shared by all layers. No protobuf, no I/O, no clock."""
