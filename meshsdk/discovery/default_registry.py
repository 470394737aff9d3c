"""Opens the registry that a process registers with, as its bootstrap says.

`meshsdk.registries.default` where the bootstrap has one (`grpc://host:port`: a control plane's registration service),
else the control plane itself: the first of `xds_servers`, with its credentials. Called by `serve`; dials nothing, the
first call does.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import grpc

from meshsdk.bootstrap import Bootstrap, InsecureCredentials, ServerConfig, TlsCredentials
from meshsdk.discovery.controlplane import CHANNEL_OPTIONS, ControlPlaneRegistry
from meshsdk.discovery.registry import Registry
from meshsdk.errors import BootstrapError

_SCHEMES = ("grpc",)


def open_default_registry(bootstrap: Bootstrap) -> Registry:
    """Returns the registry; BootstrapError names the entry that cannot be used."""
    entry = bootstrap.mesh.registries.get("default")
    if entry is None:
        if not bootstrap.servers:
            raise BootstrapError(
                f'{bootstrap.origin}: neither "xds_servers" nor "meshsdk.registries.default" names a place to register'
            )
        return _connect(bootstrap.servers[0], bootstrap.origin)
    parts = urlsplit(entry.url)
    if parts.scheme not in _SCHEMES:
        raise BootstrapError(
            f'{bootstrap.origin}: meshsdk.registries.default: "{parts.scheme}://" is not a registry this version can '
            f"register with; write grpc://HOST:PORT of a control plane"
        )
    if not parts.netloc or parts.path.strip("/") or parts.query:
        raise BootstrapError(f"{bootstrap.origin}: meshsdk.registries.default: {entry.url!r} is not grpc://HOST:PORT")
    same = next((server for server in bootstrap.servers if server.uri == parts.netloc), None)
    return _connect(same or ServerConfig(parts.netloc), bootstrap.origin)


def _connect(server: ServerConfig, origin: str) -> ControlPlaneRegistry:
    match server.credentials:
        case InsecureCredentials():
            channel = grpc.insecure_channel(server.uri, CHANNEL_OPTIONS)
        case TlsCredentials() as tls:
            channel = grpc.secure_channel(server.uri, _tls(tls, origin), CHANNEL_OPTIONS)
    return ControlPlaneRegistry(channel, server.uri)


def _tls(tls: TlsCredentials, origin: str) -> grpc.ChannelCredentials:
    try:
        authority, key, certificate = (
            None if path is None else Path(path).read_bytes()
            for path in (tls.ca_file, tls.key_file, tls.certificate_file)
        )
    except OSError as error:
        raise BootstrapError(f"{origin}: channel_creds: cannot read {error.filename}: {error.strerror}") from None
    return grpc.ssl_channel_credentials(authority, key, certificate)
