"""What a change costs: which resources are set in the cache, and which views see which routes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from envoy.config.route.v3 import route_pb2
from google.protobuf.any_pb2 import Any

from controlplane.config.documents import parse
from controlplane.config.merge import merge
from controlplane.publication import Publication
from controlplane.registries.leases import Change
from controlplane.server.resource_map import Change as CacheChange
from controlplane.snapshot import ResourceCache
from controlplane.translate import names
from controlplane.translate.view import view_of
from meshsdk.model.instance import Instance, InstanceState

TEXT = """\
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: orders}
spec: {hosts: [orders], ports: [{number: 80, name: grpc}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: orders}
spec: {host: orders, subsets: [{name: v1, labels: {version: v1}}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: orders}
spec:
  hosts: [orders]
  http:
  - name: web
    match: [{sourceLabels: {app: web}}]
    route: [{destination: {host: orders, subset: v1}}]
  - name: gold
    match: [{params: {tier: {exact: gold}}}]
    route: [{destination: {host: orders, subset: v1}}]
  - name: rest
    route: [{destination: {host: orders}}]
"""


class Published:
    """A publication with its cache, its instances, and the names that each commit changed."""

    def __init__(self) -> None:
        self.instances: dict[str, dict[str, Instance]] = {}
        self.cache = ResourceCache()
        self.commits: list[dict[str, set[str]]] = []
        self.cache.listen(self._note)
        self.publication = Publication(self.cache, self.instances)

    def _note(self, change: CacheChange) -> None:
        self.commits.append({name.rpartition(".")[2]: set(found) for name, found in change.names.items()})

    def configure(self, text: str) -> None:
        """Puts a configuration in force."""
        self.publication.configure(merge(parse(text, "f.yaml")).configuration, self.instances)

    def put(self, instance: Instance) -> None:
        """Registers or changes an instance."""
        group = self.instances.setdefault(instance.app, {})
        before = group.get(instance.id)
        group[instance.id] = instance
        self.publication.changed([Change(before, instance)])

    def remove(self, instance: Instance) -> None:
        """Removes an instance."""
        del self.instances[instance.app][instance.id]
        self.publication.changed([Change(instance, None)])

    def routes(self, key: str | None = None) -> list[str]:
        """Returns the names of the routes that a view has."""
        packed = self.cache.get(names.ROUTE, "orders", node=key)
        message = route_pb2.RouteConfiguration()
        Any.FromString(packed.body).Unpack(message)
        return [route.name for route in message.virtual_hosts[0].routes]


@pytest.fixture
def published() -> Iterator[Published]:
    """A publication of TEXT, with one instance in version v1."""
    made = Published()
    made.configure(TEXT)
    made.put(ORDERS)
    made.publication.flush()
    made.commits.clear()
    return made


ORDERS = Instance("orders", "1", "10.0.0.1:80", labels={"version": "v1"})


def test_instance_costs_its_endpoints_only(published: Published) -> None:
    """An instance of a subset touches the EDS of its host and of its subset, and nothing else."""
    published.put(replace(ORDERS, id="2", address="10.0.0.2:80", labels={"version": "v2"}))
    published.publication.flush()
    published.put(replace(ORDERS, state=InstanceState.DRAINING))
    published.publication.flush()
    assert published.commits == [
        {"ClusterLoadAssignment": {"orders"}},
        {"ClusterLoadAssignment": {"orders", "orders|v1"}},
    ]


def test_changes_before_a_flush_are_one_commit(published: Published) -> None:
    """A burst of registrations is published once."""
    for number in range(50):
        published.put(replace(ORDERS, id=str(number), address=f"10.0.1.{number}:80"))
    assert published.commits == []
    assert published.publication.flush()
    assert not published.publication.flush()
    assert len(published.commits) == 1


def test_unseen_instances_cost_nothing(published: Published) -> None:
    """A STARTING instance, and one that goes from STARTING to OFFLINE, are nothing to clients."""
    starting = replace(ORDERS, id="2", state=InstanceState.STARTING)
    published.put(starting)
    published.put(replace(starting, state=InstanceState.OFFLINE))
    published.publication.flush()
    assert published.commits == []


def test_new_application_becomes_a_service(published: Published) -> None:
    """The first instance of an application nobody configured brings listener, routes, cluster and endpoints."""
    users = Instance("users", "1", "10.0.0.9:80")
    published.put(users)
    assert published.commits == [
        {"Listener": {"users"}, "RouteConfiguration": {"users"}, "Cluster": {"users"},
         "ClusterLoadAssignment": {"users"}}
    ]  # fmt: skip
    published.commits.clear()
    published.remove(users)
    published.publication.flush()
    assert published.commits == [{"ClusterLoadAssignment": {"users"}}]
    published.publication.drop_apps(["users", "orders"])
    assert published.publication.hosts() == ["orders"]
    assert published.cache.get(names.LISTENER, "users") is None
    assert published.cache.get(names.LISTENER, "orders") is not None


def test_application_may_come_back_after_it_was_dropped(published: Published) -> None:
    """A dropped application that registers again is served again."""
    users = Instance("users", "1", "10.0.0.9:80")
    published.put(users)
    published.remove(users)
    published.publication.drop_apps(["users"])
    published.put(users)
    published.publication.flush()
    assert published.cache.get(names.ENDPOINT, "users") is not None


def test_configuration_sends_what_differs(published: Published) -> None:
    """Of a changed configuration only what differs is sent; what is gone is taken away."""
    published.configure(TEXT.replace("name: rest", "name: others"))
    assert published.commits == [{"RouteConfiguration": {"orders"}}]
    published.commits.clear()
    published.configure(TEXT)
    published.configure(TEXT)
    assert len(published.commits) == 1
    published.commits.clear()
    published.configure("")
    assert published.publication.hosts() == ["orders"]  # its instance is still registered
    assert published.commits[0]["Cluster"] == {"orders|v1"}


def test_views_see_their_routes(published: Published) -> None:
    """A caller named by a rule sees it; request-field rules go to those that evaluate them; others see neither."""
    publication = published.publication
    assert published.routes() == ["rest"]
    assert published.routes(publication.view(view_of({}, "other", "grpc"))) == ["rest"]
    assert published.routes(publication.view(view_of({}, "web", "grpc"))) == ["web", "rest"]
    assert published.routes(publication.view(view_of({}, "web", "meshsdk"))) == ["web", "gold", "rest"]


def test_views_follow_the_configuration(published: Published) -> None:
    """Callers that are connected get the routes of a rule that comes, changes or goes."""
    key = published.publication.view(view_of({}, "shop", "grpc"))
    assert published.routes(key) == ["rest"]
    published.configure(TEXT.replace("app: web", "app: shop"))
    assert published.routes(key) == ["web", "rest"]
    published.configure(TEXT)
    assert published.routes(key) == ["rest"]
    assert published.cache.nodes() == ()


def test_unused_views_are_forgotten(published: Published) -> None:
    """Views nobody uses go; those in use, and those asked for since the sweep began, stay."""
    publication = published.publication
    used, unused = (publication.view(view_of({"pod": pod}, "web", "grpc")) for pod in "ab")
    stamp = publication.stamp()
    young = publication.view(view_of({"pod": "c"}, "web", "grpc"))
    assert len({used, unused, young}) == 3
    publication.keep_views({used}, stamp)
    assert published.cache.nodes() == tuple(sorted((used, young)))
    assert publication.views == 2
