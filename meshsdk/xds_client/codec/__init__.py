"""Protobuf <-> `meshsdk.model`: one module per xDS type, nothing of protobuf passes beyond this package."""

from meshsdk.xds_client.codec.decoding import decode, unwrap

__all__ = ["decode", "unwrap"]
