"""Opens the registry that a URL names. The one place that knows which adapter speaks which scheme.

Called by `serve`, by meshes with `mesh:///` targets and by the control plane (`--registry`). Imports an adapter only
when its scheme is asked for: what it needs may not be installed. Dials nothing, the first call does.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from types import MappingProxyType
from urllib.parse import SplitResult, urlsplit

from meshsdk.discovery.registry import Registry
from meshsdk.errors import ConfigurationError

# scheme -> (module with `open_url`, extra to install, example)
_ADAPTERS: Mapping[str, tuple[str, str, str]] = MappingProxyType(
    {
        "grpc": ("meshsdk.discovery.controlplane", "", "grpc://HOST:PORT"),
        "etcd": ("meshsdk.discovery.etcd", "", "etcd://HOST:PORT[,HOST:PORT]"),
        "zookeeper": ("meshsdk.discovery.zookeeper", "zookeeper", "zookeeper://HOST:PORT[,HOST:PORT]"),
        "consul": ("meshsdk.discovery.consul", "consul", "consul://HOST:PORT"),
        "nacos": ("meshsdk.discovery.nacos", "", "nacos://HOST:PORT[,HOST:PORT]"),
        "kubernetes": ("meshsdk.discovery.kubernetes", "kubernetes", "kubernetes://"),
        "sqlite": ("meshsdk.discovery.sqlite", "", "sqlite:///PATH"),
        "memory": ("meshsdk.discovery.memory", "", "memory://NAME"),
    }
)


def open_registry(url: str, where: str) -> Registry:
    """Returns the registry; ConfigurationError says what is wrong with `url`, which stands at `where`."""
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise ConfigurationError(f"{where}: this is not a URL: {error}") from None
    known = _ADAPTERS.get(parts.scheme)
    if known is None:
        schemes = ", ".join(f"{scheme}://" for scheme in _ADAPTERS)
        raise ConfigurationError(f"{where}: {_shown(parts)} is not a registry; its scheme is none of {schemes}")
    module, extra, example = known
    try:
        adapter = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"{where}: {parts.scheme}:// needs {error.name}, which is not installed: pip install 'meshsdk[{extra}]'"
        ) from None
    try:
        registry: Registry = adapter.open_url(parts)
    except ConfigurationError as error:
        raise ConfigurationError(f"{where}: {_shown(parts)}: {error}; expected {example}") from None
    return registry


def _shown(url: SplitResult) -> str:
    """Returns a URL as messages may show it: a password does not belong there."""
    _, at, hosts = url.netloc.rpartition("@")
    return repr(url._replace(netloc=f"***@{hosts}").geturl() if at else url.geturl())
