"""Views of single nodes: what they are told over RTDS, what they share, and what that costs the others."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from envoy.service.runtime.v3 import rtds_pb2
from google.protobuf import json_format
from google.protobuf.any_pb2 import Any

from controlplane.config.documents import parse
from controlplane.plane import Plane
from controlplane.registries.registrar import LocalRegistrar
from controlplane.server.node import Node
from controlplane.server.resource_map import Change
from controlplane.server.type_urls import CLUSTER, ROUTE, RUNTIME
from controlplane.store.memory import MemoryStore
from meshsdk.model.instance import Instance

SWITCH = """\
apiVersion: meshsdk.io/v1alpha1
kind: TrafficSwitch
metadata: {{name: {0}}}
spec: {{{1}}}
"""
SHIMS = """\
apiVersion: meshsdk.io/v1alpha1
kind: ShimSet
metadata: {{name: edge}}
spec: {{selector: {{matchLabels: {{app: orders}}}}, version: {0}}}
"""
OLD, NEW = "1.39.0", "1.40.1"


class Steered:
    """A plane with nodes that asked for Runtime resources, a clock, and the commits."""

    def __init__(self) -> None:
        self.now = 100.0
        self.plane = Plane(None, MemoryStore(), lambda: self.now, lambda: None)
        self.commits: list[Change] = []
        self.plane.cache.listen(self.commits.append)

    def node(self, name: str, app: str = "orders", **labels: str) -> str:
        """A node opens a stream and asks for Runtime; returns the key of its own view."""
        node = Node(name, cluster=app, metadata={"LABELS": labels})
        assert self.plane.cache.own_view(node, CLUSTER) is None
        find = self.plane.cache.own_view(node, RUNTIME)
        assert find is not None
        return find()

    def apply(self, name: str, spec: str) -> None:
        """Puts a switch in force."""
        self.plane.apply(SWITCH.format(name, spec), "f.yaml")

    def told(self, view: str, name: str = "meshsdk.traffic_switch") -> dict[str, object]:
        """What a view has under a name."""
        packed = self.plane.cache.get(RUNTIME, name, node=view)
        assert packed is not None
        message = rtds_pb2.Runtime()
        assert Any.FromString(packed.body).Unpack(message)
        assert message.name == name
        return json_format.MessageToDict(message.layer)

    def register(self, name: str, version: str, wanted: str = "") -> None:
        """A shim registers."""
        said = {"app": "orders", "version": version, "wanted": wanted}
        labels = {f"meshsdk.io/{key}": value for key, value in said.items()}
        assert isinstance(self.plane.registrar, LocalRegistrar)
        self.plane.registrar.register(Instance("meshsdk.shim", name, "10.0.0.1:80", labels=labels), 15)
        self.plane.flush()


@pytest.fixture
def steered() -> Iterator[Steered]:
    """A plane, past the time after its start in which no shim is picked."""
    made = Steered()
    made.now += 60.0
    yield made
    made.plane.close()


def test_nodes_are_told_on_without_a_switch_and_no_version_without_a_shim_set(steered: Steered) -> None:
    """Both resources are there for whoever asks."""
    view = steered.node("o-1")
    assert steered.told(view) == {"client": True, "server": True, "decided": []}
    assert steered.told(view, "meshsdk.shim") == {"version": "", "shim_set": "", "generation": 0.0}


def test_equal_verdicts_share_bytes_and_a_switch_reaches_only_its_nodes(steered: Steered) -> None:
    """Two nodes with one verdict have the same bytes; a switch for one of them is told to nobody else."""
    one, two, web = steered.node("o-1"), steered.node("o-2"), steered.node("w-1", "web")
    get = steered.plane.cache.get
    assert get(RUNTIME, "meshsdk.traffic_switch", node=one) is get(RUNTIME, "meshsdk.traffic_switch", node=web)
    steered.commits.clear()
    steered.apply("one", "app: orders, instances: [o-1], client: off")
    assert steered.told(one) == {"client": False, "server": True, "decided": ["client"]}
    assert steered.told(two) == steered.told(web) == {"client": True, "server": True, "decided": []}
    told = [change for change in steered.commits if RUNTIME in change.names]
    assert told
    assert all(change.views is not None and change.views.isdisjoint((two, web)) for change in told)


def test_a_node_of_its_own_sees_what_its_like_see(steered: Steered) -> None:
    """Routes by label, as of every node with that label, before and after it asked; and services that come later."""
    text = """\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: orders}
spec:
  hosts: [orders]
  http:
  - {match: [{sourceLabels: {zone: a}}], route: [{destination: {host: zone-a}}]}
  - {route: [{destination: {host: orders}}]}
"""
    steered.plane.apply(text, "f.yaml")
    cache = steered.plane.cache
    shared = cache.view_of(Node("x", cluster="orders", metadata={"LABELS": {"zone": "a"}}))
    own = steered.node("o-1", zone="a")
    assert own != shared
    assert cache.get(ROUTE, "orders", node=own) is cache.get(ROUTE, "orders", node=shared)
    assert cache.get(ROUTE, "orders", node=own) is not cache.get(ROUTE, "orders")
    assert cache.get(RUNTIME, "meshsdk.traffic_switch", node=shared) is None
    steered.plane.apply(text.replace("orders", "carts"), "g.yaml")
    assert cache.get(ROUTE, "carts", node=own) is cache.get(ROUTE, "carts", node=shared)


def test_layers_go_with_the_views_that_saw_them(steered: Steered) -> None:
    """Nodes that went, and verdicts that nobody has any more, leave nothing behind."""
    steered.node("o-1")
    for number in range(5):
        steered.apply("some", f"app: orders, percentage: {20 * number}, client: off")
    assert len([key for key in steered.plane.cache.nodes() if key.startswith("runtime:")]) == 1
    for _ in range(2):
        steered.plane.sweep(list, lambda _, names: dict.fromkeys(names, frozenset()))
    assert steered.plane.views == 0
    assert steered.plane.cache.nodes() == ()


def test_a_node_with_too_many_labels_is_matched_by_those_that_count(steered: Steered) -> None:
    """A switch by a label that would be cut off reaches a node that connects after it."""
    steered.apply("late", "app: orders, labels: {zz: top}, client: off")
    labels = {f"l{number:03}": "x" for number in range(100)}
    told = steered.told(steered.node("o-1", zz="top", **labels))
    assert told == {"client": False, "server": True, "decided": ["client"]}


# -- shims ------------------------------------------------------------------------------------------------------------


def order(steered: Steered, view: str) -> str:
    """The version that a shim is told."""
    return str(steered.told(view, "meshsdk.shim")["version"])


def test_shims_are_told_in_their_turn_and_are_no_service(steered: Steered) -> None:
    """One of two is told the version, the other one once the first has it; nobody can call them."""
    steered.plane.apply(SERVICE_OF_ALL, "f.yaml")
    views = {name: steered.node(name) for name in ("o-1", "o-2")}
    for name in views:
        steered.register(name, OLD)
    steered.plane.apply(SHIMS.format(NEW), "f.yaml")
    steered.now += 1.0
    steered.plane.flush()
    ((first, second),) = [
        (a, b) for a, b in (("o-1", "o-2"), ("o-2", "o-1")) if [order(steered, views[k]) for k in (a, b)] == [NEW, ""]
    ]
    (status,) = steered.plane.shim_sets().values()
    assert (status.shims, status.updated, status.message) == (2, 0, f"on the way: {first}")
    steered.commits.clear()
    steered.now += 1.0
    steered.register(first, NEW, NEW)
    assert order(steered, views[second]) == NEW
    assert [change.views for change in steered.commits] == [frozenset((views[second],))]
    assert steered.plane.hosts() == ["everybody"]
    assert steered.plane.endpoints("everybody") == []
    assert "meshsdk.shim" not in steered.plane.instances
    assert (len(steered.plane.instances), len(steered.plane.instances.shims())) == (0, 2)
    steered.plane.delete(next(iter(steered.plane.shim_sets())))
    steered.now += 1.0
    steered.plane.flush()
    assert steered.told(views[second], "meshsdk.shim") == {"version": "", "shim_set": "", "generation": 0.0}


SERVICE_OF_ALL = """\
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: everybody}
spec:
  hosts: [everybody]
  ports: [{number: 80, name: grpc}]
  workloadSelector: {labels: {meshsdk.io/app: orders}}
"""


def test_after_a_start_shims_have_time_to_register_again() -> None:
    """With a store that forgets nobody is asked in the first seconds; the deadline is the keeper's."""
    steered = Steered()
    view = steered.node("o-1")
    steered.register("o-1", OLD)
    steered.plane.apply(SHIMS.format(NEW), "f.yaml")
    steered.plane.flush()
    assert order(steered, view) == ""
    deadline = steered.plane.tick()
    assert deadline is not None
    while order(steered, view) == "" and steered.now < 120.0:
        steered.now = max(deadline, steered.now + 0.1)
        steered.plane.flush()
        deadline = steered.plane.tick() or 0.0
    assert 110.0 <= steered.now < 111.0
    steered.plane.close()


def test_statuses_survive_parsing(steered: Steered) -> None:
    """What `meshctl get -o yaml` shows, with its status, can be applied again."""
    text = SHIMS.format(NEW) + "status: {phase: Complete, failures: []}\n"
    assert not parse(text, "f.yaml").problems
    steered.plane.apply(text, "f.yaml")
