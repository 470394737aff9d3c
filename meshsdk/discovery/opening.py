"""Opens the registry that a URL names. The one place that knows which adapter speaks which scheme.

Called by `serve`, by meshes with `mesh:///` targets and by the control plane (`--registry`). Imports an adapter only
when its scheme is asked for: what it needs may not be installed. Dials nothing, the first call does.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from urllib.parse import SplitResult

from meshsdk.discovery.registry import Registry
from meshsdk.errors import ConfigurationError
from meshsdk.model.registry_url import shown_url, split_registry_url

# each of SCHEMES -> (module with `open_url`, extra to install, example)
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


def open_registry(
    url: str, where: str, openers: Mapping[str, Callable[[SplitResult], Registry]] = MappingProxyType({})
) -> Registry:
    """Returns the registry; ConfigurationError says what is wrong with `url`, which stands at `where`.

    `openers`: for schemes that the caller opens in its own way, in place of the adapter's `open_url`.
    """
    try:
        parts = split_registry_url(url)
    except ConfigurationError as error:
        raise ConfigurationError(f"{where}: {error}") from None
    module, extra, example = _ADAPTERS[parts.scheme]
    try:
        opener = openers.get(parts.scheme) or importlib.import_module(module).open_url
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"{where}: {parts.scheme}:// needs {error.name}, which is not installed: pip install 'meshsdk[{extra}]'"
        ) from None
    try:
        registry: Registry = opener(parts)
    except ConfigurationError as error:
        raise ConfigurationError(f"{where}: {shown_url(url)!r}: {error}; expected {example}") from None
    return registry
