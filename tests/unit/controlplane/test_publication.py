"""What a change costs: which resources are set in the cache, and which views see which routes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.config.route.v3 import route_pb2
from google.protobuf.any_pb2 import Any

from controlplane.config.documents import parse
from controlplane.config.merge import merge
from controlplane.publication import Publication
from controlplane.registries.leases import Change
from controlplane.server.resource_map import Change as CacheChange
from controlplane.server.type_urls import LB_ENDPOINT
from controlplane.snapshot import ResourceCache
from controlplane.translate import names
from controlplane.translate.view import LEDS_FEATURE, view_of
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

    def client(self, app: str = "other", agent: str = "grpc", features: tuple[str, ...] = (), **labels: str) -> str:
        """A client opens a stream; returns the key of its view."""
        return self.publication.view(view_of(labels, app, agent, features))

    def endpoints(self, name: str, key: str | None = None) -> list[str]:
        """Returns the addresses in an EDS resource; None for one that is not there, collections as they are named."""
        packed = self.cache.get(names.ENDPOINT, name, node=key)
        if packed is None:
            return None
        message = endpoint_pb2.ClusterLoadAssignment()
        Any.FromString(packed.body).Unpack(message)
        collections = [group.leds_cluster_locality_config.leds_collection_name for group in message.endpoints]
        listed = [each.endpoint.address.socket_address.address for g in message.endpoints for each in g.lb_endpoints]
        return [name.partition("LbEndpoint/")[2] for name in collections if name] + listed

    def singles(self) -> list[str]:
        """Returns the LEDS resources that there are."""
        return sorted(packed.name.partition("LbEndpoint/")[2] for packed in self.cache.snapshot().of(LB_ENDPOINT))

    def routes(self, key: str | None = None) -> list[str]:
        """Returns the names of the routes that a view has."""
        packed = self.cache.get(names.ROUTE, "orders", node=key)
        message = route_pb2.RouteConfiguration()
        Any.FromString(packed.body).Unpack(message)
        return [route.name for route in message.virtual_hosts[0].routes]


@pytest.fixture
def published() -> Iterator[Published]:
    """A publication of TEXT, with one instance in version v1, and a client that asks for all endpoints."""
    made = Published()
    made.configure(TEXT)
    made.publication.ask(made.client(), ["*"])
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
    """Views nobody uses go, and layers nobody sees; those in use, and those asked for since the sweep began, stay."""
    publication = published.publication
    used, unused = (published.client("web", pod=pod) for pod in "ab")
    gold = published.client("shop", "meshsdk")
    stamp = publication.stamp()
    young = published.client("web", pod="c")
    assert len({used, unused, young}) == 3
    assert len(published.cache.nodes()) == 2
    publication.keep_views({used}, stamp)
    assert publication.views == 2
    assert len(published.cache.nodes()) == 1
    assert published.routes(used) == published.routes(young) == ["web", "rest"]
    assert published.routes(gold) == ["rest"]


def test_memory_follows_what_makes_a_difference(published: Published) -> None:
    """A thousand callers with labels that no rule names share two layers and their bytes with all others like them."""
    cache = published.cache
    keys = [published.client("web" if number % 2 else "shop", pod=str(number)) for number in range(1_000)]
    assert published.publication.views == 1_001
    assert len(cache.nodes()) == 1
    assert len({id(cache.snapshot(key)) for key in keys}) == 2
    assert published.routes(keys[1]) == ["web", "rest"]


def test_layers_of_other_configuration_are_dropped(published: Published) -> None:
    """A rule on another label moves callers to other layers in the commit that brings it; none is left of the old."""
    web, shop = published.client("web"), published.client("shop")
    published.commits.clear()
    published.configure(TEXT.replace("app: web", "app: shop"))
    assert (published.routes(web), published.routes(shop)) == (["rest"], ["web", "rest"])
    assert all(found == {"RouteConfiguration": {"orders"}} for found in published.commits)
    assert len(published.cache.nodes()) == 1


DIRECT = """\
---
apiVersion: meshsdk.io/v1alpha1
kind: DiscoveryPolicy
metadata: {name: all}
spec: {hosts: ["*"], endpoints: REGISTRY}
"""


def test_an_application_that_comes_later_is_in_the_layers(published: Published) -> None:
    """Under a policy for every service, a new application's cluster is other for those who can go to the registry."""
    published.configure(TEXT + DIRECT)
    direct = published.client("web", features=("meshsdk.registry_clusters",))
    published.put(Instance("users", "1", "10.0.0.9:80"))
    own, shared = (published.cache.get(names.CLUSTER, "users", node=key) for key in (direct, None))
    assert own is not None
    assert shared is not None
    assert own.version != shared.version
    published.publication.drop_apps(["users"])
    assert published.cache.get(names.CLUSTER, "users", node=direct) is None
    assert published.cache.get(names.CLUSTER, "orders", node=direct) is not None


# -- endpoints that are asked for -------------------------------------------------------------------------------------


@pytest.fixture
def unasked() -> Published:
    """A publication of TEXT with one instance; no client asked for endpoints."""
    made = Published()
    made.configure(TEXT)
    made.put(ORDERS)
    made.publication.flush()
    return made


def test_what_nobody_asks_for_is_not_made(unasked: Published) -> None:
    """Endpoints are made when a client asks for them by name, and kept up to date from then on; no others."""
    assert not len(unasked.cache.snapshot().of(names.ENDPOINT))
    key = unasked.client()
    assert not unasked.publication.knows(key, ["orders"])
    unasked.publication.ask(key, ["orders"])
    assert unasked.publication.knows(key, ["orders"])
    unasked.put(replace(ORDERS, id="2", address="10.0.0.2:80"))
    unasked.publication.flush()
    assert unasked.endpoints("orders") == ["10.0.0.1", "10.0.0.2"]
    assert unasked.endpoints("orders|v1") is None
    assert [packed.name for packed in unasked.publication.assignments("orders")] == ["orders", "orders|v1"]


def test_who_asks_too_early_gets_it_later(unasked: Published) -> None:
    """Endpoints that are asked for before there is such an application are made when it registers."""
    unasked.publication.ask(unasked.client(), ["users"])
    assert unasked.endpoints("users") is None
    unasked.put(Instance("users", "1", "10.0.0.9:80"))
    unasked.publication.flush()
    assert unasked.endpoints("users") == ["10.0.0.9"]


def test_leds_clients_see_collections_and_others_all_endpoints(unasked: Published) -> None:
    """Who takes LEDS gets the names of collections, with one resource for each endpoint; the rest get one resource."""
    leds, plain = unasked.client(features=(LEDS_FEATURE,)), unasked.client()
    unasked.put(replace(ORDERS, id="2", address="10.0.0.2:80", zone="a", region="eu"))
    unasked.publication.ask(leds, ["orders"])
    assert unasked.endpoints("orders", plain) is None
    assert unasked.endpoints("orders", leds) == ["orders/-/*", "orders/eu%3Aa%3A/*"]
    assert unasked.singles() == ["orders/-/10.0.0.1%3A80", "orders/eu%3Aa%3A/10.0.0.2%3A80"]
    unasked.publication.ask(plain, ["orders"])
    assert unasked.endpoints("orders", plain) == ["10.0.0.1", "10.0.0.2"]
    assert unasked.endpoints("orders", leds) == ["orders/-/*", "orders/eu%3Aa%3A/*"]


def test_leds_change_costs_one_small_resource(unasked: Published) -> None:
    """Of 300 endpoints one that changes is one LEDS resource; one that goes is one name; nothing else is set."""
    unasked.publication.ask(unasked.client(features=(LEDS_FEATURE,)), ["orders"])
    for number in range(2, 300):
        unasked.put(replace(ORDERS, id=str(number), address=f"10.1.{number // 250}.{number % 250}:80"))
    unasked.publication.flush()
    unasked.commits.clear()
    unasked.put(replace(ORDERS, weight=9))
    unasked.publication.flush()
    name = "xdstp:///envoy.config.endpoint.v3.LbEndpoint/orders/-/10.0.0.1%3A80"
    assert unasked.commits == [{"LbEndpoint": {name}}]
    unasked.remove(replace(ORDERS, weight=9))
    unasked.publication.flush()
    assert unasked.commits[1:] == [{"LbEndpoint": {name}}]
    assert name not in unasked.singles()


def test_endpoint_that_moves_is_one_commit(unasked: Published) -> None:
    """An instance that comes back in another zone leaves one collection and joins the other in the same commit."""
    key = unasked.client(features=(LEDS_FEATURE,))
    unasked.publication.ask(key, ["orders"])
    unasked.commits.clear()
    unasked.put(replace(ORDERS, zone="b"))
    unasked.publication.flush()
    assert unasked.endpoints("orders", key) == ["orders/%3Ab%3A/*"]
    assert unasked.singles() == ["orders/%3Ab%3A/10.0.0.1%3A80"]
    assert sorted(kind for commit in unasked.commits for kind in commit) == ["ClusterLoadAssignment", "LbEndpoint"]


def test_configuration_leaves_unchanged_endpoints_alone(unasked: Published) -> None:
    """Of a changed configuration only the targets that it changes are made anew; one that ends takes its EDS along."""
    leds, plain = unasked.client(features=(LEDS_FEATURE,)), unasked.client()
    for key in (leds, plain):
        unasked.publication.ask(key, ["orders", "orders|v1"])
    before = unasked.cache.get(names.ENDPOINT, "orders", node=plain)
    unasked.commits.clear()
    unasked.configure(TEXT.replace("version: v1", "version: v2"))
    assert unasked.cache.get(names.ENDPOINT, "orders", node=plain) is before
    assert unasked.endpoints("orders|v1", plain) == unasked.endpoints("orders|v1", leds) == []
    assert unasked.singles() == ["orders/-/10.0.0.1%3A80"]
    unasked.configure(TEXT)
    assert unasked.endpoints("orders|v1", plain) == ["10.0.0.1"]
    assert unasked.singles() == ["orders%7Cv1/-/10.0.0.1%3A80", "orders/-/10.0.0.1%3A80"]
    unasked.configure("")
    assert unasked.endpoints("orders|v1", plain) is unasked.endpoints("orders|v1", leds) is None


V1, WHOLE = "orders%7Cv1/-/10.0.0.1%3A80", "orders/-/10.0.0.1%3A80"
RENAMED = TEXT.replace("name: v1", "name: v2").replace("subset: v1", "subset: v2")
LEFT = "xdstp:///envoy.config.endpoint.v3.LbEndpoint/orders|v1/-"  # the key of its collection


def test_collection_outlives_its_target(unasked: Published) -> None:
    """What a subset had stays as it was after the subset ends, until the second look at which nobody asks for it."""
    publication = unasked.publication
    publication.ask(unasked.client(features=(LEDS_FEATURE,)), ["orders|v1"])
    unasked.configure(RENAMED)
    unasked.remove(ORDERS)
    publication.flush()
    for asked in [LEFT], [], [LEFT], []:
        assert publication.withdrawn() == {LEFT}
        publication.release(lambda name: (), asked)
        assert unasked.singles() == [V1]
    unasked.commits.clear()
    publication.release(lambda name: (), [])
    assert (unasked.singles(), publication.withdrawn()) == ([], frozenset())
    assert len(unasked.commits) == 1


def test_target_that_comes_back_has_the_endpoints_of_now(unasked: Published) -> None:
    """A subset that is there again before its collections were released has those of its members that there are now."""
    key = unasked.client(features=(LEDS_FEATURE,))
    unasked.publication.ask(key, ["orders|v1"])
    unasked.put(replace(ORDERS, id="2", address="10.0.0.2:80", zone="b"))
    unasked.publication.flush()
    unasked.configure(RENAMED)
    unasked.remove(ORDERS)
    unasked.put(replace(ORDERS, id="3", address="10.0.0.3:80", zone="b"))
    unasked.publication.flush()
    assert unasked.singles() == ["orders%7Cv1/%3Ab%3A/10.0.0.2%3A80", V1]
    unasked.configure(TEXT)
    assert unasked.singles() == ["orders%7Cv1/%3Ab%3A/10.0.0.2%3A80", "orders%7Cv1/%3Ab%3A/10.0.0.3%3A80"]
    assert unasked.endpoints("orders|v1", key) == ["orders%7Cv1/%3Ab%3A/*"]
    assert not unasked.publication.withdrawn()


def test_service_without_instances_is_told_at_once(unasked: Published) -> None:
    """The last instance of a service takes its endpoint along; that of an application which was dropped had none."""
    publication = unasked.publication
    publication.ask(unasked.client(features=(LEDS_FEATURE,)), ["users", "orders"])
    unasked.put(Instance("users", "1", "10.0.0.9:80"))
    publication.flush()
    assert unasked.singles() == [WHOLE, "users/-/10.0.0.9%3A80"]
    unasked.remove(Instance("users", "1", "10.0.0.9:80"))
    publication.flush()
    assert unasked.singles() == [WHOLE]
    publication.drop_apps(["users"])
    assert not publication.withdrawn()


def test_instance_that_went_with_a_change_of_its_target_is_gone(unasked: Published) -> None:
    """What left a target, and was not published yet when the configuration changed it, does not stay behind."""
    key = unasked.client(features=(LEDS_FEATURE,))
    unasked.publication.ask(key, ["orders", "orders|v1"])
    unasked.remove(ORDERS)
    unasked.configure(TEXT + WORKLOAD)
    assert unasked.singles() == ["orders/-/10.9.9.9%3A80"]
    unasked.put(ORDERS)
    unasked.publication.flush()
    unasked.remove(ORDERS)
    unasked.configure(RENAMED)
    assert unasked.singles() == []


WORKLOAD = """\
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: w}
spec: {address: 10.9.9.9, labels: {app: orders}}
"""


def test_workloads_of_the_configuration_are_followed(unasked: Published) -> None:
    """A WorkloadEntry that comes or goes changes the endpoints that are made already, in both forms."""
    leds, plain = unasked.client(features=(LEDS_FEATURE,)), unasked.client()
    for key in (leds, plain):
        unasked.publication.ask(key, ["orders"])
    unasked.configure(TEXT + WORKLOAD)
    assert unasked.endpoints("orders", plain) == ["10.0.0.1", "10.9.9.9"]
    assert unasked.singles() == ["orders/-/10.0.0.1%3A80", "orders/-/10.9.9.9%3A80"]
    unasked.configure(TEXT)
    assert unasked.singles() == ["orders/-/10.0.0.1%3A80"]


def test_what_nobody_asks_for_any_more_goes_at_the_second_look(unasked: Published) -> None:
    """Endpoints are kept while a client asks for them and until the second sweep after; the other form stays."""
    publication = unasked.publication
    leds, plain = unasked.client(features=(LEDS_FEATURE,)), unasked.client()
    for key in (leds, plain):
        publication.ask(key, ["orders", "orders|v1"])
    assert publication.asked() == {"orders", "orders|v1"}
    asking = {"orders": {plain}, "orders|v1": {leds}}
    publication.release(lambda name: asking.get(name, ()), ())
    assert unasked.endpoints("orders", leds) == ["orders/-/*"]
    publication.release(lambda name: asking.get(name, ()), ())
    assert unasked.endpoints("orders", leds) == unasked.endpoints("orders", plain) == ["10.0.0.1"]
    assert unasked.endpoints("orders|v1", plain) is None
    assert unasked.singles() == ["orders%7Cv1/-/10.0.0.1%3A80"]
    publication.release(lambda name: (), ())
    publication.ask(plain, ["orders"])
    publication.release(lambda name: (), ())
    assert (unasked.endpoints("orders"), unasked.singles()) == (["10.0.0.1"], [])
    publication.release(lambda name: (), ())
    assert not len(unasked.cache.snapshot().of(names.ENDPOINT))
    publication.ask(plain, ["orders"])
    assert unasked.endpoints("orders") == ["10.0.0.1"]
