"""Replacing the running Envoy by another version: `meshsdk shim upgrade`, and ShimSet."""
