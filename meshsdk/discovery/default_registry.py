"""Opens the registries that a bootstrap names: one of `meshsdk.registries`, or the one that a process registers with.

The latter is `meshsdk.registries.default` where the bootstrap has one, else the control plane itself: `xds_servers`,
the first that answers. A control plane's registration service (`grpc://`) gets the credentials that `xds_servers` has
for it.
Called by `serve` and by `feeds`; dials nothing, the first call does.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from urllib.parse import SplitResult

import grpc

from meshsdk.bootstrap import Bootstrap, InsecureCredentials, ServerConfig, TlsCredentials
from meshsdk.discovery.controlplane import CHANNEL_OPTIONS, ControlPlaneRegistry, address_of
from meshsdk.discovery.opening import open_registry
from meshsdk.discovery.registry import Registry
from meshsdk.discovery.replicas import ControlPlaneReplicas
from meshsdk.errors import BootstrapError, ConfigurationError

_DEFAULT = "default"


def open_default_registry(bootstrap: Bootstrap) -> Registry:
    """Returns the registry to register with; BootstrapError names the entry that cannot be used."""
    if _DEFAULT in bootstrap.mesh.registries:
        return open_registry_of(bootstrap, _DEFAULT)
    if not bootstrap.servers:
        raise BootstrapError(
            f'{bootstrap.origin}: neither "xds_servers" nor "meshsdk.registries.default" names a place to register'
        )
    replicas = [_connect(server, bootstrap.origin) for server in bootstrap.servers]
    return replicas[0] if len(replicas) == 1 else ControlPlaneReplicas(replicas)


def open_registry_of(bootstrap: Bootstrap, name: str) -> Registry:
    """Returns the registry called `name`, which the bootstrap has; BootstrapError names the entry if it is no good."""
    url = bootstrap.mesh.registries[name].url
    where = f"{bootstrap.origin}: meshsdk.registries.{name}"
    try:
        return open_registry(url, where, {"grpc": partial(_control_plane, bootstrap)})
    except ConfigurationError as error:
        raise BootstrapError(str(error)) from None


def _control_plane(bootstrap: Bootstrap, url: SplitResult) -> ControlPlaneRegistry:
    address = address_of(url)
    same = next((server for server in bootstrap.servers if server.uri == address), None)
    return _connect(same or ServerConfig(address), bootstrap.origin)


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
