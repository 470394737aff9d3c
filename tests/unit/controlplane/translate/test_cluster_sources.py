"""Where a cluster's endpoints come from, as the SDK's own codec reads it, for clients that can do more and less."""

from __future__ import annotations

import pytest
from envoy.config.cluster.v3 import cluster_pb2

from controlplane.config.documents import parse
from controlplane.config.merge import merge
from controlplane.model.configuration import Configuration
from controlplane.translate.clusters import clusters
from controlplane.translate.routes import route_configuration
from controlplane.translate.targets import targets
from controlplane.translate.view import View, cluster_view, route_view, view_of
from meshsdk.model.instance import Instance
from meshsdk.model.migration import Migration
from meshsdk.model.resources import AggregateSource, Cluster, EdsSource, Kind, RegistrySource
from meshsdk.xds_client.codec import decode

HEAD = "apiVersion: meshsdk.io/v1alpha1\nkind: DiscoveryPolicy\nmetadata: {name: orders}\nspec:\n"
PLAIN = HEAD + "  hosts: [orders]\n  endpoints: REGISTRY\n  registry: main\n"
MOVING = PLAIN + "  app: shop-orders\n  interface: shop.Orders\n"
SUBSETS = """\
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: orders}
spec: {host: orders, trafficPolicy: {loadBalancer: {simple: RANDOM}}, subsets: [{name: v2, labels: {version: v2}}]}
"""
UNITS = """\
---
apiVersion: meshsdk.io/v1alpha1
kind: UnitPolicy
metadata: {name: shop}
spec:
  units: [east, west]
  services: [{hosts: [orders], scope: COPIED, central: west}]
"""


def configuration(text: str) -> Configuration:
    """Returns the configuration of a text."""
    return merge(parse(text, "f.yaml")).configuration


def seen(app: str = "web", unit: str = "", *, able: bool = True) -> View:
    """Returns the view of a client that watches registries itself, or cannot."""
    features = {"meshsdk.registry_clusters"} if able else set()
    return view_of({}, app, "meshsdk", features, {"UNIT": unit} if unit else {})


def published(found: Configuration, view: View, host: str = "orders") -> dict[str, Cluster]:
    """Returns the clusters of a host by name, as the SDK reads them."""
    messages: list[cluster_pb2.Cluster] = list(clusters(host, found, cluster_view(host, found, view)))
    return {message.name: decode(Kind.CLUSTER, message.SerializeToString())[1] for message in messages}


def test_straight_from_the_registry() -> None:
    """A client that can gets the registry's name and the application, and a subset's labels with it."""
    found = published(configuration(PLAIN + SUBSETS), seen())
    assert found["orders"].source == RegistrySource("main", "orders")
    assert found["orders|v2"].source == RegistrySource("main", "orders", labels=(("version", "v2"),))
    assert not found["orders"].ignored


def test_the_same_as_eds_for_others() -> None:
    """A client that did not announce it gets the cluster of the same name and balancing with an EDS resource."""
    text = configuration(PLAIN + SUBSETS)
    able, other = published(text, seen()), published(text, seen(able=False))
    assert able.keys() == other.keys()
    assert other["orders|v2"].source == EdsSource("orders|v2")
    assert able["orders"].lb == other["orders"].lb


def test_a_selector_goes_along() -> None:
    """The labels of a ServiceEntry's selector select in the registry too, the application by its name."""
    entry = """\
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: orders}
spec:
  hosts: [orders]
  ports: [{number: 80, name: grpc}]
  workloadSelector: {labels: {app: shop-orders, tier: a}}
"""
    found = published(configuration(PLAIN + entry), seen())
    assert found["orders"].source == RegistrySource("main", "shop-orders", labels=(("tier", "a"),))


def test_units() -> None:
    """The clusters of units name theirs; of a copied service the own one comes first."""
    found = published(configuration(PLAIN + UNITS), seen(unit="east"))
    assert {name: cluster.source for name, cluster in found.items()} == {
        "orders||east": RegistrySource("main", "orders", "east"),
        "orders||west": RegistrySource("main", "orders", "west"),
        "orders||east+west": AggregateSource(("orders||east", "orders||west")),
    }


def test_all_units_but_drained_ones() -> None:
    """No registry knows which units are drained: who calls all of them asks the control plane."""
    text = PLAIN + UNITS + "  drain: {west: east}\n"
    assert published(configuration(text), seen())["orders"].source == EdsSource("orders")
    assert published(configuration(PLAIN + UNITS), seen())["orders"].source == RegistrySource("main", "orders")


def routed(found: Configuration, view: View) -> str:
    """Returns the cluster that calls to `orders` go to."""
    (host,) = route_configuration("orders", found, route_view("orders", found, view)).virtual_hosts
    name: str = host.routes[0].route.cluster
    return name


@pytest.mark.parametrize("migration", list(Migration))
def test_migration_in_the_client(migration: Migration) -> None:
    """A client that watches the registry is told application, interface and mode, and does the rest itself."""
    found = published(configuration(MOVING + f"  migration: {migration.value}\n"), seen())
    assert found["orders"].source == RegistrySource("main", "shop-orders", "", "shop.Orders", migration)


def test_migration_over_eds() -> None:
    """Other clients have a cluster for each mode, the same ones in all of them, and routes that name one of them."""
    names = {}
    for migration in Migration:
        text = configuration(MOVING + f"  migration: {migration.value}\n")
        found = published(text, seen(able=False))
        assert {name: cluster.source for name, cluster in found.items()} == {
            "orders": EdsSource("orders"),
            "orders@interface": EdsSource("orders@interface"),
            "orders@both": AggregateSource(("orders", "orders@interface")),
        }
        assert {"orders", "orders@interface"} <= {target.name for target in targets("orders", text)}
        names[migration] = routed(text, seen(able=False))
        assert routed(text, seen()) == "orders"
    assert names == {
        Migration.FORCE_INTERFACE: "orders@interface",
        Migration.FORCE_APPLICATION: "orders",
        Migration.APPLICATION_FIRST: "orders@both",
    }


def test_migration_in_units() -> None:
    """Where a unit's copy is called first, what stands for each of the two is of the mode as well."""
    text = configuration(MOVING + UNITS)
    found = published(text, seen(unit="east", able=False))
    assert found["orders||east+west"].source == AggregateSource(("orders||east@both", "orders||west@both"))
    assert found["orders||east@both"].source == AggregateSource(("orders||east", "orders||east@interface"))
    assert routed(text, seen(unit="east", able=False)) == "orders||east+west"
    own = MOVING + "  consumers: [{sourceLabels: {app: web}, migration: FORCE_APPLICATION}]\n"
    found = published(configuration(own + UNITS), seen("web", "east", able=False))
    assert found["orders||east+west"].source == AggregateSource(("orders||east", "orders||west"))


def test_both_levels_are_published() -> None:
    """The EDS resources hold the application's instances, and those registered under the interface's name."""
    found = {target.name: target for target in targets("orders", configuration(MOVING))}
    application = Instance("shop-orders", "1", "10.0.0.1:80")
    interface = Instance("shop.Orders", "1", "10.0.0.1:80")
    assert (found["orders"].has_instance(application), found["orders"].has_instance(interface)) == (True, False)
    by_interface = found["orders@interface"]
    assert (by_interface.has_instance(application), by_interface.has_instance(interface)) == (False, True)


def test_consumers_of_their_own() -> None:
    """A caller's labels choose another mode or another source, for it alone; the first that fits counts."""
    text = configuration(
        MOVING
        + "  migration: FORCE_INTERFACE\n  consumers:\n"
        + "  - {sourceLabels: {app: web}, migration: FORCE_APPLICATION}\n"
        + "  - {sourceLabels: {app: old}, endpoints: CONTROL_PLANE}\n"
    )
    web, old, other = (published(text, seen(app))["orders"].source for app in ("web", "old", "x"))
    assert isinstance(web, RegistrySource)
    assert isinstance(other, RegistrySource)
    assert (web.migration, other.migration) == (Migration.FORCE_APPLICATION, Migration.FORCE_INTERFACE)
    assert old == EdsSource("orders")
    assert routed(text, seen("old")) == "orders@interface"
    assert routed(text, seen("web", able=False)) == "orders"
    assert routed(text, seen("web")) == "orders"


def test_every_host() -> None:
    """A policy for `*` is for every application, those that no resource names included; listed endpoints stay."""
    listed = """\
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: db}
spec: {hosts: [db], ports: [{number: 80, name: grpc}], resolution: STATIC, endpoints: [{address: 10.0.0.1}]}
"""
    text = configuration(PLAIN.replace("[orders]", "['*']") + listed)
    assert published(text, seen(), "users")["users"].source == RegistrySource("main", "users")
    assert published(text, seen(), "db")["db"].source == EdsSource("db")


def test_projections_share() -> None:
    """Callers share clusters unless the policy makes a difference between them."""
    text = configuration(PLAIN + "  consumers: [{sourceLabels: {app: web}, endpoints: CONTROL_PLANE}]\n")
    assert cluster_view("orders", text, seen("a")) == cluster_view("orders", text, seen("b")) != View()
    assert cluster_view("orders", text, seen("a")) != cluster_view("orders", text, seen("web"))
    assert cluster_view("users", text, seen("a")) == View()
