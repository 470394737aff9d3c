"""Our control plane as peers see it: a `ResourceCache` behind an `XdsServer` that can be stopped and started again."""

from __future__ import annotations

from google.protobuf.message import Message

from controlplane import ResourceCache, XdsServer
from controlplane.server.status import SubscriptionInfo


class Plane:
    """Keeps its port over restarts. Owned by the test thread."""

    def __init__(self) -> None:
        self.port = 0
        self._cache = ResourceCache()
        self._server: XdsServer | None = None

    def start(self) -> None:
        """Starts a server, on the same port as before."""
        server = XdsServer(self._cache)
        self.port = server.start(f"127.0.0.1:{self.port}")
        self._server = server

    def stop(self) -> None:
        """Stops the server; streams break, the cache stays."""
        if self._server is not None:
            self._server.stop()
            self._server = None

    def publish(self, *resources: Message) -> None:
        """Adds or replaces resources, all at once."""
        self._cache.set(resources)

    def withdraw(self, *resources: Message) -> None:
        """Takes away the resources named like these, all at once."""
        with self._cache.batch():
            for resource in resources:
                name = getattr(resource, "cluster_name", "") or resource.name
                self._cache.delete(f"type.googleapis.com/{resource.DESCRIPTOR.full_name}", name)

    def _subscriptions(self, node: str) -> list[SubscriptionInfo]:
        assert self._server is not None
        clients = [client for client in self._server.clients() if client.node.id == node]
        return [subscription for client in clients for subscription in client.subscriptions]

    def refusal(self, node: str) -> str:
        """Returns the texts of the NACKs in force of a node, as the server's client table has them; "" if none."""
        return "\n".join(subscription.nack for subscription in self._subscriptions(node) if subscription.rejected)

    def refusal_of(self, agent: str) -> str:
        """Returns the texts of the NACKs in force of all clients of a user agent."""
        assert self._server is not None
        clients = [client for client in self._server.clients() if client.node.user_agent == agent]
        return "\n".join(each.nack for client in clients for each in client.subscriptions if each.rejected)

    def remove(self, type_url: str, name: str) -> None:
        """Takes a resource away."""
        self._cache.delete(type_url, name)
