"""Which unit a call goes to: the policy as YAML, decided by the SDK's own codec and router."""

from __future__ import annotations

import json

import pytest
from envoy.config.cluster.v3 import cluster_pb2
from google.protobuf import json_format

from controlplane.config.documents import parse
from controlplane.config.merge import merge
from controlplane.model.configuration import Configuration
from controlplane.translate.clusters import clusters
from controlplane.translate.describe import route_rows
from controlplane.translate.routes import route_configuration
from controlplane.translate.targets import targets
from controlplane.translate.view import View, cluster_view, clusters_vary, route_view, view_of
from meshsdk.model.instance import Instance
from meshsdk.model.resources import AggregateSource, Kind
from meshsdk.routing.router import RouteTable
from meshsdk.xds_client.codec import decode
from tests.unit.routing.shop import Order, User

POLICY = """\
apiVersion: meshsdk.io/v1alpha1
kind: UnitPolicy
metadata: {name: shop}
spec:
  units: [east, west, global]
  services:
  - {hosts: [orders, carts], scope: CLOSED}
  - {hosts: [prices], scope: COPIED, central: global}
  - {hosts: [audit], scope: CENTRAL, central: global}
  key:
    sources: [{header: x-user}, {field: user.tier}, {baggage: user}]
    rules:
    - {unit: west, exact: ['7', bob]}
    - {unit: east, integers: [{from: 0, to: 49, modulo: 100}], prefix: [e-]}
    - {unit: west, integers: [{from: 50, to: 99, modulo: 100}], prefix: [w-]}
  exits:
  - {from: east, to: west, hosts: [carts]}
"""
DRAIN = "  drain: {west: east}\n"
REFUSE = "    unmapped: REFUSE\n  exits:\n"
REFUSED = "refused"


def configuration(text: str) -> Configuration:
    """Returns the configuration of a text."""
    return merge(parse(text, "f.yaml")).configuration


def seen(unit: str, agent: str = "meshsdk") -> View:
    """Returns the view of a client in a unit."""
    return view_of({}, "", agent, metadata={"UNIT": unit} if unit else {})


def where(
    found: Configuration,
    host: str,
    unit: str,
    metadata: tuple[tuple[str, str], ...] = (),
    request: object = None,
    *,
    agent: str = "meshsdk",
    method: str = "/a.B/C",
) -> str:
    """Returns the cluster that a call goes to, or REFUSED with the reason."""
    view = route_view(host, found, seen(unit, agent))
    _, routes = decode(Kind.ROUTE, route_configuration(host, found, view).SerializeToString())
    selected = RouteTable(routes.virtual_hosts[0]).plan(method).select(metadata, request, lambda: 0.0)
    assert selected is not None
    if selected.problem:
        return f"{REFUSED}: {selected.problem}"
    return selected.cluster(lambda: 0.0)


def user(key: str) -> tuple[tuple[str, str], ...]:
    """Returns the metadata of a call with a key."""
    return (("x-user", key),)


@pytest.mark.parametrize(
    ("key", "cluster"),
    [
        ("7", "orders||west"),  # an exception within 0 to 49
        ("bob", "orders||west"),
        ("8", "orders||east"),
        ("0", "orders||east"),
        ("123449", "orders||east"),
        ("123450", "orders||west"),
        ("0099", "orders||west"),
        ("e-1", "orders||east"),
        ("w-", "orders||west"),
        ("nobody", "orders"),
        ("-5", "orders"),
    ],
)
def test_a_key_decides(key: str, cluster: str) -> None:
    """A caller outside of all units, such as a gateway, reaches the unit that the key belongs to."""
    assert where(configuration(POLICY), "orders", "", user(key)) == cluster


@pytest.mark.parametrize(
    ("baggage", "cluster"),
    [
        ("user=8", "orders||east"),
        ("a=1;p=2, user = 1250 ;q, b=3", "orders||west"),
        ("user=bob", "orders||west"),
        ("user=w-9;ttl=1", "orders||west"),
        ("superuser=8", "orders"),
        ("a=1;user=8", "orders"),  # a property of the entry a
        ("user=bobby", "orders"),
    ],
)
def test_baggage(baggage: str, cluster: str) -> None:
    """An entry of the W3C baggage header is found among others and their properties; nothing else is taken for it."""
    assert where(configuration(POLICY), "orders", "", (("baggage", baggage),)) == cluster


def test_request_field() -> None:
    """A field of the request is a key where the client reads fields, and never one that a stock client would ignore."""
    found = configuration(POLICY)
    order = Order(user=User(tier="e-2"))
    assert where(found, "orders", "", (), order) == "orders||east"
    assert where(found, "orders", "", user("8"), Order(user=User(tier="w-2"))) == "orders||east"
    assert where(found, "orders", "", (), order, agent="gRPC C-core") == "orders"
    assert not any(
        route.match.dynamic_metadata
        for route in route_configuration("orders", found, seen("east", "grpc")).virtual_hosts[0].routes
    )


@pytest.mark.parametrize(
    ("unit", "metadata", "cluster"),
    [
        ("east", user("8"), "orders||east"),
        ("west", user("60"), "orders||west"),
        ("east", (), "orders||east"),
        ("west", (), "orders||west"),
        ("east", user("nobody"), "orders||east"),
        ("elsewhere", (), "orders"),
    ],
)
def test_calls_stay_in_their_unit(unit: str, metadata: tuple[tuple[str, str], ...], cluster: str) -> None:
    """A call with its own unit's key, and one without a key, stays; a caller of unknown unit counts as outside."""
    assert where(configuration(POLICY), "orders", unit, metadata) == cluster


def test_exits() -> None:
    """A key of another unit goes there by an exit for that service and direction, and is refused in words without."""
    found = configuration(POLICY)
    assert where(found, "carts", "east", user("60")) == "carts||west"
    assert where(found, "orders", "east", user("60")) == (
        "refused: the control plane answers: 'the key belongs to unit west; UnitPolicy/shop has no exit from east to "
        "it for orders'"
    )
    assert where(found, "carts", "west", user("8")).startswith(REFUSED)


def test_an_exit_leads_to_one_unit() -> None:
    """An exit to one unit is none to another."""
    found = configuration(POLICY.replace("  exits:", "    - {unit: global, prefix: [g-]}\n  exits:"))
    assert where(found, "carts", "east", user("60")) == "carts||west"
    assert where(found, "carts", "east", user("g-1")).startswith(REFUSED)
    assert where(found, "carts", "global", user("g-1")) == "carts||global"


def test_stock_clients_are_refused_by_what_they_know() -> None:
    """Stock gRPC gets `non_forwarding_action`, since some of its languages refuse a route that answers by itself."""
    found = configuration(POLICY)
    (virtual_host,) = route_configuration("orders", found, seen("east", "grpc-java")).virtual_hosts
    kinds = {route.WhichOneof("action") for route in virtual_host.routes}
    assert kinds == {"route", "non_forwarding_action"}
    assert where(found, "orders", "east", user("60"), agent="grpc-java").startswith(REFUSED)


def test_unmapped_keys_can_be_refused() -> None:
    """With `unmapped: REFUSE` a key that no rule has fails, and a call without a key still stays."""
    found = configuration(POLICY.replace("  exits:\n", REFUSE))
    assert where(found, "orders", "east", user("nobody")) == (
        "refused: the control plane answers: 'UnitPolicy/shop has no rule for the key of this call'"
    )
    assert where(found, "orders", "east", (("baggage", "user=nobody"),)).startswith(REFUSED)
    assert where(found, "orders", "east", (("baggage", "other=nobody"),)) == "orders||east"
    assert where(found, "orders", "east") == "orders||east"


@pytest.mark.parametrize(
    ("host", "unit", "cluster"),
    [
        ("audit", "east", "audit||global"),
        ("audit", "", "audit||global"),
        ("prices", "east", "prices||east+global"),
        ("prices", "global", "prices||global"),
        ("prices", "", "prices"),
        ("users", "east", "users"),
    ],
)
def test_central_and_copied(host: str, unit: str, cluster: str) -> None:
    """Central services are called in their unit, copied ones at home first; others have no unit. Keys do not count."""
    assert where(configuration(POLICY), host, unit, user("60")) == cluster


# -- drain ------------------------------------------------------------------------------------------------------------


def test_drain_moves_everything() -> None:
    """One line moves a unit: its keys, its own callers, its exits, and the calls from outside."""
    found = configuration(POLICY + DRAIN)
    assert where(found, "orders", "", user("60")) == "orders||east"
    assert where(found, "orders", "east", user("60")) == "orders||east"
    assert where(found, "orders", "west", user("60")) == "orders||east"
    assert where(found, "orders", "west") == "orders||east"
    assert where(found, "prices", "west") == "prices||east+global"
    (whole,) = (target for target in targets("orders", found) if target.name == "orders")
    assert not whole.has_instance(Instance("orders", "1", "10.0.0.1:80", unit="west"))
    assert whole.has_instance(Instance("orders", "1", "10.0.0.1:80", unit="east"))
    assert whole.has_instance(Instance("orders", "1", "10.0.0.1:80"))


@pytest.mark.parametrize("unit", ["", "east", "west", "global"])
def test_what_was_there_before_a_drain_stays(unit: str) -> None:
    """Clusters and endpoints that a client used before a drain are there until it lets go of them itself."""
    before, after = configuration(POLICY), configuration(POLICY + "  drain: {west: east, global: east}\n")
    for host in ("orders", "carts", "prices", "audit"):
        had, has = ({cluster.name for cluster in offered(found, host, unit)} for found in (before, after))
        assert had <= has
        assert named(after, host, unit) <= has
        assert {target.name for target in targets(host, before)} <= {target.name for target in targets(host, after)}


def test_drain_of_the_central_unit() -> None:
    """What is central moves too."""
    found = configuration(POLICY + "  drain: {global: west}\n")
    assert where(found, "audit", "east") == "audit||west"
    assert where(found, "prices", "east") == "prices||east+west"
    assert where(found, "prices", "west") == "prices||west"


def test_exits_follow_a_drain() -> None:
    """The unit that takes over another's calls may leave where that could, for the keys that it was meant for."""
    found = configuration(POLICY.replace("from: east, to: west", "from: west, to: east") + "  drain: {west: global}\n")
    assert where(found, "carts", "global", user("8")) == "carts||east"
    assert where(found, "orders", "global", user("8")).startswith(REFUSED)
    assert where(found, "carts", "east", user("60")).startswith(REFUSED)


# -- rules of the user ------------------------------------------------------------------------------------------------

RULES = """\
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: orders}
spec: {host: orders, subsets: [{name: v2, labels: {version: v2}}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: orders}
spec:
  hosts: [orders]
  http:
  - name: canary
    match: [{uri: {prefix: /a.B/}, headers: {x-canary: {exact: yes}}}]
    timeout: 3s
    route: [{destination: {host: orders, subset: v2}}]
  - name: audit
    match: [{uri: {prefix: /a.Audit/}}]
    route: [{destination: {host: audit}, weight: 1}, {destination: {host: orders}, weight: 1}]
  - name: rest
    route: [{destination: {host: orders}}]
"""


def test_rules_choose_first_then_units() -> None:
    """A routing rule decides host and subset, and the policy the unit of it; the rule's order is kept."""
    found = configuration(POLICY + RULES.replace("exact: yes", "exact: 'yes'"))
    canary = (("x-canary", "yes"),)
    assert where(found, "orders", "east", canary) == "orders|v2|east"
    assert where(found, "orders", "", (*canary, *user("60"))) == "orders|v2|west"
    assert where(found, "orders", "east", (*canary, *user("60"))).startswith(REFUSED)
    assert where(found, "orders", "east", user("8")) == "orders||east"
    assert where(found, "orders", "east", method="/a.Audit/C") == "audit||global"


def test_timeouts_and_retries_stay() -> None:
    """Every route made of a rule has the rule's timeout and name."""
    found = configuration(POLICY + RULES.replace("exact: yes", "exact: 'yes'"))
    (virtual_host,) = route_configuration("orders", found, seen("")).virtual_hosts
    canary = [route for route in virtual_host.routes if route.name == "canary"]
    assert len(canary) > 5
    assert {route.route.timeout.seconds for route in canary} == {3}


# -- what a client sees -----------------------------------------------------------------------------------------------


def named(found: Configuration, host: str, unit: str) -> set[str]:
    """Returns the clusters that the routes of a view name."""
    view = route_view(host, found, seen(unit))
    text = json.dumps(json_format.MessageToDict(route_configuration(host, found, view)))
    return {part for part in text.split('"') if part == host or part.startswith(f"{host}|")} - {host, f"{host}:80"} | (
        {host} if f'"cluster": "{host}"' in text else set()
    )


def offered(found: Configuration, host: str, unit: str) -> list[cluster_pb2.Cluster]:
    """Returns the clusters that are published for a view."""
    return list(clusters(host, found, cluster_view(host, found, seen(unit))))


@pytest.mark.parametrize(
    ("host", "unit", "expected"),
    [
        ("orders", "east", {"orders||east"}),
        ("orders", "west", {"orders||west"}),
        ("carts", "east", {"carts||east", "carts||west"}),
        ("carts", "west", {"carts||west"}),
        ("carts", "", {"carts", "carts||east", "carts||west"}),
        ("audit", "west", {"audit||global"}),
        ("prices", "global", {"prices||global"}),
    ],
)
def test_a_client_is_shown_its_unit_and_its_exits(host: str, unit: str, expected: set[str]) -> None:
    """Routes name no cluster but those of the caller's unit and exits, and no other cluster is published for it."""
    found = configuration(POLICY)
    assert named(found, host, unit) == expected
    assert {cluster.name for cluster in offered(found, host, unit)} == expected
    assert clusters_vary(host, found)


def test_every_cluster_has_endpoints() -> None:
    """Whatever a view is offered is an EDS resource that is published, subsets and drained units included."""
    for text in (POLICY, POLICY + DRAIN, POLICY + DRAIN + RULES.replace("exact: yes", "exact: 'yes'")):
        found = configuration(text)
        for host in found.hosts():
            published = {target.name for target in targets(host, found)}
            for unit in ("", "east", "west", "global"):
                wanted = {
                    cluster.eds_cluster_config.service_name
                    for cluster in offered(found, host, unit)
                    if cluster.HasField("eds_cluster_config")
                }
                assert wanted <= published


def test_own_copy_then_the_central_one() -> None:
    """A copied service is an aggregate cluster: the caller's unit, then the central one."""
    first, second, whole = (
        decode(Kind.CLUSTER, message.SerializeToString())[1]
        for message in offered(configuration(POLICY), "prices", "east")
    )
    assert (first.name, second.name) == ("prices||east", "prices||global")
    assert whole.source == AggregateSource(("prices||east", "prices||global"))
    assert whole.lb == first.lb


def test_instances_and_workloads_of_a_unit() -> None:
    """A unit's cluster has the instances registered in it, and the listed endpoints labelled so."""
    entry = """\
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: carts}
spec:
  hosts: [carts]
  ports: [{number: 80, name: grpc}]
  resolution: STATIC
  endpoints: [{address: 10.0.0.1, labels: {meshsdk.io/unit: east}}, {address: 10.0.0.2}]
"""
    found = configuration(POLICY + entry)
    by_name = {target.name: target for target in [*targets("orders", found), *targets("carts", found)]}
    assert by_name["orders||east"].has_instance(Instance("orders", "1", "10.0.0.1:80", unit="east"))
    assert not by_name["orders||east"].has_instance(Instance("orders", "1", "10.0.0.1:80", unit="west"))
    assert not by_name["orders||east"].has_instance(Instance("orders", "1", "10.0.0.1:80"))
    assert by_name["orders"].has_instance(Instance("orders", "1", "10.0.0.1:80", unit="west"))
    first, second = by_name["carts"].listed
    assert (by_name["carts||east"].has(first), by_name["carts||east"].has(second)) == (True, False)
    assert (by_name["carts"].has(first), by_name["carts"].has(second)) == (True, True)


def test_projections_share() -> None:
    """Clients share what does not differ: by unit only where units count, and unknown units count as none."""
    found = configuration(POLICY)
    assert route_view("users", found, seen("east")) == route_view("users", found, seen("west"))
    assert route_view("orders", found, seen("east")) != route_view("orders", found, seen("west"))
    assert route_view("orders", found, seen("north")) == route_view("orders", found, seen(""))
    assert cluster_view("users", found, seen("east")) == View()
    assert not clusters_vary("users", found)


def test_in_words() -> None:
    """`meshctl routes` says which unit a call goes to and which line says so."""
    rows = list(route_rows("carts", configuration(POLICY + DRAIN)))
    assert (rows[0]["to"], rows[0]["units"]) == ("carts", "by header x-user or field user.tier or baggage user")
    assert [(row["match"], row["to"], row["from"]) for row in rows[1:]] == [
        ("key 7, bob", "unit east (drained from west)", "f.yaml:13"),
        ("key e-..., 0 to 49 modulo 100", "unit east", "f.yaml:14"),
        ("key w-..., 50 to 99 modulo 100", "unit east (drained from west)", "f.yaml:15"),
        ("no key, or any other", "the caller's own unit", "f.yaml:5"),
        ("exit from unit east to west for carts", "unit east (drained from west)", "f.yaml:17"),
        ("a key of another unit, without an exit", "refused", "f.yaml:5"),
    ]
    (audit,) = route_rows("audit", configuration(POLICY))
    (prices,) = route_rows("prices", configuration(POLICY))
    assert (audit["units"], prices["units"]) == ("global", "own, then global")
