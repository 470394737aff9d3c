"""gRPC's xDS bootstrap file, read into frozen values (gRFCs A27, A47, A65, A71, A88) with our own "meshsdk" section.

Called once when a mesh starts. It reads a file or the environment it is handed and never opens a connection: the
credentials here are descriptions, the channel is made from them in `meshsdk.xds_client.stream`.

Fields that gRPC defines and we do not use are allowed, as A27 demands, and listed in `Bootstrap.ignored`; in our own
section an unknown key is an error.
"""

from __future__ import annotations

import enum
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

from meshsdk.errors import BootstrapError, ConfigurationError
from meshsdk.model.migration import Migration
from meshsdk.model.registry_url import split_registry_url
from meshsdk.model.resources import Locality

_LARGEST_FILE = 4 * 1024 * 1024  # bytes; a bootstrap is a few kB, so anything near this is the wrong file
_FILE_VARIABLE = "GRPC_XDS_BOOTSTRAP"
_TEXT_VARIABLE = "GRPC_XDS_BOOTSTRAP_CONFIG"
_FEATURES = frozenset({"fail_on_data_errors", "resource_timer_is_transient_error", "xds_v3"})
_AUTHORITY_SAFE = "-._~!$&'()*+,;=:[]@"  # RFC 3986 section 3.2


class Transport(enum.Enum):
    """Which variant of ADS is spoken. AUTO: delta, and state of the world where the server answers UNIMPLEMENTED."""

    AUTO = "auto"
    DELTA = "delta"
    SOTW = "sotw"


@dataclass(frozen=True, slots=True)
class InsecureCredentials:
    """channel_creds type `insecure`: plain text."""


@dataclass(frozen=True, slots=True)
class TlsCredentials:
    """channel_creds type `tls` (A65): paths of PEM files. No CA: the system's roots. Certificate and key: mutual TLS.

    Files are read again at each new connection, so rotation needs no timer.
    """

    ca_file: str | None = None
    certificate_file: str | None = None
    key_file: str | None = None


Credentials = InsecureCredentials | TlsCredentials


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """One entry of `xds_servers`: `uri` as gRPC dials it, and those of its features that mean something here."""

    uri: str
    credentials: Credentials = InsecureCredentials()
    features: frozenset[str] = frozenset()

    @property
    def fail_on_data_errors(self) -> bool:
        """A88: a NACKed or deleted resource is dropped, instead of the last good one being kept."""
        return "fail_on_data_errors" in self.features

    @property
    def resource_timer_is_transient_error(self) -> bool:
        """A88: a resource that does not arrive in time means a slow server, not a missing resource."""
        return "resource_timer_is_transient_error" in self.features


@dataclass(frozen=True, slots=True)
class Authority:
    """One entry of `authorities` (A47). Without servers of its own it has the top-level ones here."""

    listener_template: str
    servers: tuple[ServerConfig, ...]


def _no_values() -> Mapping[str, Any]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Node:
    """Who this client says it is: the part of `envoy.config.core.v3.Node` that a bootstrap sets.

    `metadata` holds JSON values.
    """

    id: str = ""
    cluster: str = ""
    locality: Locality = Locality()
    metadata: Mapping[str, Any] = field(default_factory=_no_values)


@dataclass(frozen=True, slots=True)
class RegistryConfig:
    """A service registry that is asked directly: `etcd://host:port`, `zookeeper://...`.

    `protection`: seconds for which instances stay in use that vanish in masses (docs/discovery.md), 0 for none; None:
    the default.
    """

    url: str
    protection: float | None = None


@dataclass(frozen=True, slots=True)
class MigrationSettings:
    """Migration modes by gRPC service, and that of all others."""

    default: Migration = Migration.APPLICATION_FIRST
    services: Mapping[str, Migration] = field(default_factory=_no_values)


@dataclass(frozen=True, slots=True)
class MeshSection:
    """The "meshsdk" section. `cache_dir` is where the last good configuration is kept; None: nowhere."""

    transport: Transport = Transport.AUTO
    registries: Mapping[str, RegistryConfig] = field(default_factory=_no_values)
    cache_dir: str | None = None
    migration: MigrationSettings = field(default_factory=MigrationSettings)


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """The whole bootstrap. `node` has our `node_overrides` in it already.

    `servers` is empty only with registries, which need no control plane.
    `listener_template`: `client_default_listener_resource_name_template`. `ignored`: dotted paths of what is in the
    file and has no effect here. `origin` names the file or variable, for error messages.
    """

    servers: tuple[ServerConfig, ...]
    node: Node = field(default_factory=Node)
    authorities: Mapping[str, Authority] = field(default_factory=_no_values)
    listener_template: str = "%s"
    mesh: MeshSection = field(default_factory=MeshSection)
    ignored: tuple[str, ...] = ()
    origin: str = "bootstrap"


def load_bootstrap(source: Mapping[str, Any] | str | os.PathLike[str] | None, environ: Mapping[str, str]) -> Bootstrap:
    """Reads a bootstrap from a mapping, a file, or (None) from what `environ` names, the file variable first (A27).

    Raises BootstrapError that says where, what is wrong and what to write instead.
    """
    if isinstance(source, Mapping):
        return _bootstrap(_Section(source, "", "bootstrap", []))
    if source is not None:
        return _load(Path(source), str(source))
    if path := environ.get(_FILE_VARIABLE):
        return _load(Path(path), f"{path} (from {_FILE_VARIABLE})")
    if text := environ.get(_TEXT_VARIABLE):
        return _parse(text, _TEXT_VARIABLE)
    raise BootstrapError(
        f"no xDS bootstrap: set {_FILE_VARIABLE} to the path of a bootstrap file, or {_TEXT_VARIABLE} to its JSON, "
        "or pass bootstrap= to Mesh"
    )


def _load(path: Path, origin: str) -> Bootstrap:
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST_FILE + 1)
    except OSError as error:
        raise BootstrapError(f"{origin}: cannot read the bootstrap file: {error.strerror or error}") from error
    if len(data) > _LARGEST_FILE:
        raise BootstrapError(f"{origin}: more than {_LARGEST_FILE} bytes, so this is not a bootstrap file")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise BootstrapError(f"{origin}: the bootstrap file is not UTF-8: {error}") from error
    return _parse(text, origin)


def _parse(text: str, origin: str) -> Bootstrap:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BootstrapError(f"{origin}: not JSON: {error}") from error
    return _bootstrap(_Section(value, "", origin, []))


class _Section:
    """One JSON object and its place, for errors that say where. `ignored` is one list for the whole bootstrap."""

    def __init__(self, value: object, path: str, origin: str, ignored: list[str]) -> None:
        self.path, self.origin, self.ignored = path, origin, ignored
        if not isinstance(value, Mapping):
            raise self.error("", f"must be an object, not {_kind(value)}")
        self.data: Mapping[str, Any] = value

    def error(self, key: str, words: str) -> BootstrapError:
        """An error about one key of this object, or ("") about the object."""
        return BootstrapError(": ".join(filter(None, (self.origin, self._at(key), words))))

    def text(self, key: str) -> str | None:
        """The string at `key`; None where there is none."""
        value = self.data.get(key)
        if value is not None and not isinstance(value, str):
            raise self.error(key, f"must be a string, not {_kind(value)}")
        return value

    def section(self, key: str) -> _Section:
        """The object at `key`; an empty one where there is none."""
        value = self.data.get(key)
        return _Section({} if value is None else value, self._at(key), self.origin, self.ignored)

    def sections(self, key: str) -> dict[str, _Section]:
        """The objects in the object at `key`, by name."""
        parent = self.section(key)
        return {
            name: _Section(value, f"{parent.path}[{name!r}]", self.origin, self.ignored)
            for name, value in parent.data.items()
        }

    def listed(self, key: str) -> list[Any]:
        """The list at `key`; an empty one where there is none."""
        value = self.data.get(key)
        if value is not None and not isinstance(value, list):
            raise self.error(key, f"must be a list, not {_kind(value)}")
        return value or []

    def listed_sections(self, key: str) -> list[_Section]:
        """The objects in the list at `key`."""
        return [
            _Section(value, f"{self._at(key)}[{index}]", self.origin, self.ignored)
            for index, value in enumerate(self.listed(key))
        ]

    def uses(self, *keys: str) -> None:
        """Notes that all other keys are ignored, as A27 demands of gRPC's own sections."""
        self.ignored.extend(self._at(key) for key in self.data if key not in keys)

    def allows(self, *keys: str) -> None:
        """Refuses all other keys."""
        for key in self.data:
            if key not in keys:
                raise self.error(key, f"is not known; allowed here: {', '.join(keys)}")

    def _at(self, key: str) -> str:
        return f"{self.path}.{key}" if self.path and key else self.path or key


def _kind(value: object) -> str:
    """Names a value's type as JSON does."""
    names = {type(None): "null", bool: "a boolean", int: "a number", float: "a number", str: "a string"}
    return names.get(type(value)) or ("an object" if isinstance(value, Mapping) else "a list")


def _bootstrap(top: _Section) -> Bootstrap:
    template = "client_default_listener_resource_name_template"
    top.uses("xds_servers", "node", "authorities", template, "meshsdk")
    servers = _servers(top)
    mesh = top.section("meshsdk")
    section = _mesh(mesh)
    if not servers and not section.registries:
        raise top.error("xds_servers", 'is missing; write [{"server_uri": "host:port", "channel_creds": [...]}]')
    authorities = {name: _authority(name, section, servers) for name, section in top.sections("authorities").items()}
    return Bootstrap(
        servers=servers,
        node=_node(top.section("node"), mesh.section("node_overrides")),
        authorities=MappingProxyType(authorities),
        listener_template=top.text(template) or "%s",
        mesh=section,
        ignored=tuple(top.ignored),
        origin=top.origin,
    )


def _servers(parent: _Section) -> tuple[ServerConfig, ...]:
    return tuple(_server(section) for section in parent.listed_sections("xds_servers"))


def _server(section: _Section) -> ServerConfig:
    section.uses("server_uri", "channel_creds", "server_features")
    uri = section.text("server_uri")
    if not uri:
        raise section.error("server_uri", "is missing; name the xDS server as host:port")
    features = section.listed("server_features")
    section.ignored.extend(f"{section.path}.server_features[{f!r}]" for f in features if f not in _FEATURES)
    return ServerConfig(uri, _credentials(section), frozenset(f for f in features if f in _FEATURES))


def _credentials(server: _Section) -> Credentials:
    """The first type that we support is taken (A27); the ones before it are listed as ignored."""
    seen: list[str] = []
    for section in server.listed_sections("channel_creds"):
        kind = section.text("type") or ""
        if kind == "insecure":
            return InsecureCredentials()
        if kind == "tls":
            return _tls(section.section("config"))
        seen.append(kind)
        server.ignored.append(f"{section.path} (type {kind!r})")
    found = f"none of {seen} is supported" if seen else "is missing or empty"
    raise server.error("channel_creds", f"{found}; give one of the types 'tls' and 'insecure'")


def _tls(config: _Section) -> TlsCredentials:
    config.uses("ca_certificate_file", "certificate_file", "private_key_file")
    certificate, key = config.text("certificate_file"), config.text("private_key_file")
    if (certificate is None) != (key is None):
        raise config.error("", "certificate_file and private_key_file must be set together (gRFC A65)")
    return TlsCredentials(config.text("ca_certificate_file"), certificate, key)


def _authority(name: str, section: _Section, servers: tuple[ServerConfig, ...]) -> Authority:
    key = "client_listener_resource_name_template"
    section.uses(key, "xds_servers")
    prefix = f"xdstp://{quote(name, safe=_AUTHORITY_SAFE)}/"
    template = section.text(key) or f"{prefix}envoy.config.listener.v3.Listener/%s"
    if not template.startswith(prefix):
        raise section.error(key, f"must start with {prefix!r} (gRFC A47)")
    return Authority(template, _servers(section) or servers)


def _node(node: _Section, overrides: _Section) -> Node:
    node.uses("id", "cluster", "locality", "metadata")
    overrides.allows("id", "cluster", "locality", "metadata")
    source = overrides if "locality" in overrides.data else node
    metadata = {**node.section("metadata").data, **overrides.section("metadata").data}
    try:
        # A copy of our own: the caller's dict may change later.
        detached = json.loads(json.dumps(metadata))
    except (TypeError, ValueError, RecursionError) as error:
        raise node.error("metadata", f"must hold JSON values only: {error}") from error
    return Node(
        id=overrides.text("id") or node.text("id") or "",
        cluster=overrides.text("cluster") or node.text("cluster") or "",
        locality=_locality(source.section("locality")),
        metadata=MappingProxyType(detached),
    )


def _locality(section: _Section) -> Locality:
    # "JSON form of Node" (A27): proto JSON has both spellings of a field.
    section.uses("region", "zone", "sub_zone", "subZone")
    sub_zone = section.text("sub_zone") or section.text("subZone") or ""
    return Locality(section.text("region") or "", section.text("zone") or "", sub_zone)


def _mesh(section: _Section) -> MeshSection:
    section.allows("transport", "registries", "cache_dir", "node_overrides", "migration")
    transport = section.text("transport") or "auto"
    if transport not in [member.value for member in Transport]:
        raise section.error("transport", f"is {transport!r}; write 'auto', 'delta' or 'sotw'")
    return MeshSection(
        transport=Transport(transport),
        registries=MappingProxyType({name: _registry(one) for name, one in section.sections("registries").items()}),
        cache_dir=section.text("cache_dir") or None,
        migration=_migration(section.section("migration")),
    )


def _registry(section: _Section) -> RegistryConfig:
    section.allows("url", "protection_seconds")
    url = section.text("url")
    if not url or "://" not in url:
        raise section.error("url", "must be the registry's address, such as etcd://127.0.0.1:2379")
    try:
        split_registry_url(url)
    except ConfigurationError as error:
        raise section.error("url", str(error)) from None
    seconds = section.data.get("protection_seconds")
    if seconds is not None and (isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds >= 0):
        raise section.error("protection_seconds", "must be a number of zero or more")
    return RegistryConfig(url, None if seconds is None else float(seconds))


def _migration(section: _Section) -> MigrationSettings:
    section.allows("default", "services")
    services = section.section("services")
    modes = {name: _mode(services, name) for name in services.data}
    default = _mode(section, "default") if "default" in section.data else MigrationSettings().default
    return MigrationSettings(default, MappingProxyType(modes))


def _mode(section: _Section, key: str) -> Migration:
    text = section.text(key)
    modes = {mode.value: mode for mode in Migration}
    if text not in modes:
        raise section.error(key, f"is {text!r}; write {', '.join(modes)}")
    return modes[text]
