"""A control plane whose instances a test puts and takes: `Publication` behind an `XdsServer` that may restart."""

from __future__ import annotations

from collections.abc import Callable, Collection

from controlplane.config.documents import parse
from controlplane.config.merge import merge
from controlplane.publication import Publication
from controlplane.registries.leases import Change
from controlplane.server.node import Node
from controlplane.server.service import XdsServer
from controlplane.server.status import ClientInfo
from controlplane.server.type_urls import ENDPOINT
from controlplane.snapshot import ResourceCache
from controlplane.translate.view import view_of
from meshsdk.model.instance import Instance


class RegisteredPlane:
    """Keeps its port over restarts. Owned by the test thread; the publication is used by one thread at a time."""

    def __init__(self, text: str = "") -> None:
        """`text`: the configuration."""
        self.port = 0
        self._instances: dict[str, dict[str, Instance]] = {}
        self._text = text
        self._server: XdsServer | None = None
        self._renew()

    def _renew(self) -> None:
        self.cache = ResourceCache(view=self._view, wanted=self._wanted)
        self.publication = Publication(self.cache, self._instances)
        self.publication.configure(merge(parse(self._text, "f.yaml")).configuration, self._instances)

    def _view(self, node: Node) -> str:
        return self.publication.view(view_of(node.labels, node.app, node.user_agent, node.features, node.metadata))

    def _wanted(self, view: str, type_url: str, names: Collection[str]) -> Callable[[], None] | None:
        return (lambda: self.publication.ask(view, names)) if type_url == ENDPOINT else None

    def configure(self, text: str) -> None:
        """Puts a configuration in force."""
        self._text = text
        self.publication.configure(merge(parse(text, "f.yaml")).configuration, self._instances)

    def put(self, *instances: Instance) -> None:
        """Registers or changes instances, all at once."""
        for instance in instances:
            group = self._instances.setdefault(instance.app, {})
            before = group.get(instance.id)
            group[instance.id] = instance
            self.publication.changed([Change(before, instance)])
        self.publication.flush()

    def take(self, app: str, *ids: str) -> None:
        """Removes instances, all at once."""
        for identifier in ids:
            self.publication.changed([Change(self._instances[app].pop(identifier), None)])
        self.publication.flush()

    def start(self, *, afresh: bool = False) -> None:
        """Starts a server, on the same port as before; `afresh`: as a process that knows nothing of the last one."""
        if afresh:
            self._renew()
        self._server = XdsServer(self.cache)
        self.port = self._server.start(f"127.0.0.1:{self.port}")

    def stop(self) -> None:
        """Stops the server; streams break, instances stay."""
        if self._server is not None:
            self._server.stop()
            self._server = None

    def client(self, node: str) -> ClientInfo:
        """Returns what the server says of a node."""
        assert self._server is not None
        return next(client for client in self._server.clients() if client.node.id == node)
