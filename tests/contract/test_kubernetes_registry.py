"""What is Kubernetes' own in its adapter: Services' slices, pods' metadata, lost places, rights, tokens and TLS.

Against the fake API server; what every adapter does is in tests/contract/registries.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from meshsdk.discovery.opening import open_registry
from meshsdk.discovery.registry import Registry
from meshsdk.errors import RegistryError
from meshsdk.model.instance import Instance, InstanceState
from tests.contract import channel_tls
from tests.contract.registries.follower import Follower
from tests.e2e.processes import until
from tests.servers.kubernetes_fake import KubernetesFake

A, B = "10.0.0.1", "10.0.0.2"
GRPC = {"name": "grpc", "port": 50051, "protocol": "TCP"}
METRICS = {"name": "metrics", "port": 9090, "protocol": "TCP"}
ALL_RIGHTS = [{"resources": ["pods", "endpointslices", "configmaps"], "verbs": "get list watch create update delete"}]


class Cluster:
    """A namespace of the fake, and clients of it."""

    def __init__(self, server: KubernetesFake, namespace: str) -> None:
        self.server = server
        self.namespace = namespace
        self._opened: list[Registry] = []

    def open(self, parameters: str = "") -> Registry:
        """Returns a client, which is closed after the test."""
        url = f"kubernetes://{self.server.address}?plain=1&namespace={self.namespace}&timeout=3{parameters}"
        registry = open_registry(url, "the test")
        self._opened.append(registry)
        return registry

    def close(self) -> None:
        """Closes the clients."""
        for registry in self._opened:
            registry.close()

    def put_slice(self, name: str, *endpoints: dict, app: str = "orders", ports: tuple = (GRPC,), **fields) -> None:
        """Creates or replaces a slice as the endpoint slice controller would."""
        item = {
            "metadata": {"name": name, "labels": {"kubernetes.io/service-name": app}},
            "addressType": "IPv4",
            "endpoints": list(endpoints),
            "ports": list(ports),
            **fields,
        }
        try:
            self.server.create("endpointslices", self.namespace, item)
        except AssertionError:
            self.server.replace("endpointslices", self.namespace, item)

    def remove_slice(self, name: str) -> None:
        """Removes a slice."""
        self.server.delete("endpointslices", self.namespace, name)

    def put_pod(self, name: str, **metadata: object) -> None:
        """Creates or replaces a pod."""
        try:
            self.server.create("pods", self.namespace, {"metadata": {"name": name, **metadata}})
        except AssertionError:
            self.server.replace("pods", self.namespace, {"metadata": {"name": name, **metadata}})

    def lists(self) -> int:
        """Counts the lists of slices that were asked for since the last count."""
        requests = self.server.control("requests")["requests"]
        return sum(1 for each in requests if each.startswith("list") and "endpointslices" in each)


def endpoint(address: str, pod: str = "", **fields: object) -> dict:
    """Returns an endpoint; keyword arguments are its other fields."""
    target = {"targetRef": {"kind": "Pod", "name": pod}} if pod else {}
    return {"addresses": [address], **target, **fields}


def seen(follower: Follower, app: str = "orders") -> dict[str, InstanceState]:
    """Returns what a follower knows as address -> state."""
    return {instance.address: instance.state for instance in follower.apps.get(app, {}).values()}


def wait_for(follower: Follower, **states: InstanceState) -> None:
    """Waits until a follower knows exactly A and B in these states, by their names `a` and `b`."""
    wanted = {f"{A if name == 'a' else B}:50051": state for name, state in states.items()}
    follower.wait(lambda: follower.log and seen(follower) == wanted, str(wanted))


@pytest.fixture(scope="module")
def server() -> Iterator[KubernetesFake]:
    """One API server for the module."""
    fake = KubernetesFake().start()
    yield fake
    fake.remove()


@pytest.fixture
def cluster(server, request) -> Iterator[Cluster]:
    """A namespace for each test."""
    made = Cluster(server, f"n{abs(hash(request.node.name)) % 10**9}")
    yield made
    made.close()


# -- Services' endpoints -----------------------------------------------------------------------------------------------


def test_a_services_slices_are_its_instances(cluster):
    """Several slices make one application; each endpoint is an instance named by its address, in its zone."""
    cluster.put_slice("orders-1", endpoint(A, zone="eu-1"))
    cluster.put_slice("orders-2", endpoint(B))
    cluster.put_slice("users-1", endpoint("10.0.9.9"), app="users")
    follower = Follower(cluster.open(), "orders")
    first = Instance("orders", f"{A}:50051", f"{A}:50051", zone="eu-1")
    follower.wait_for(first, Instance("orders", f"{B}:50051", f"{B}:50051"))
    cluster.remove_slice("orders-2")
    follower.wait_for(first)
    everything = Follower(cluster.open(), "")
    everything.wait_for_mark()
    assert set(everything.apps) == {"orders", "users"}


@pytest.mark.parametrize(
    ("conditions", "state"),
    [
        ({}, InstanceState.ONLINE),
        ({"ready": True}, InstanceState.ONLINE),
        ({"ready": False}, InstanceState.STARTING),
        ({"ready": False, "serving": True, "terminating": True}, InstanceState.DRAINING),
        ({"ready": False, "serving": False, "terminating": True}, InstanceState.OFFLINE),
    ],
)
def test_conditions_are_states(cluster, conditions, state):
    """Ready is ONLINE, not yet ready STARTING, terminating and serving DRAINING, terminating otherwise OFFLINE."""
    cluster.put_slice("s", endpoint(A, conditions=conditions))
    wait_for(Follower(cluster.open(), "orders"), a=state)


def test_an_endpoint_in_two_slices_is_there_once(cluster):
    """While it moves between slices it counts as the readier of the two, and it is never gone in between."""
    cluster.put_slice("s1", endpoint(A, conditions={"ready": True}), endpoint(B))
    follower = Follower(cluster.open(), "orders")
    wait_for(follower, a=InstanceState.ONLINE, b=InstanceState.ONLINE)
    cluster.put_slice("s2", endpoint(A, conditions={"ready": False}))
    cluster.put_slice("s1", endpoint(B, conditions={"ready": False}))
    wait_for(follower, a=InstanceState.STARTING, b=InstanceState.STARTING)
    assert not any(increment.removed for increment in follower.log)


def test_the_port_is_found_or_named(cluster, caplog):
    """By protocol, by name, or because it is the only one; else the slice is skipped and the log says which to name."""
    h2c = {"name": "x", "port": 7, "protocol": "TCP", "appProtocol": "kubernetes.io/h2c"}
    cluster.put_slice("a", endpoint(A), app="protocol", ports=(GRPC, h2c))
    cluster.put_slice("b", endpoint(A), app="name", ports=(METRICS, {"name": "grpc-api", "port": 8}))
    cluster.put_slice("c", endpoint(A), app="only", ports=(METRICS,))
    cluster.put_slice("d", endpoint(A), app="unclear", ports=(METRICS, {"name": "web", "port": 80}))
    cluster.put_slice("e", endpoint(A), app="udp", ports=({"name": "grpc", "port": 80, "protocol": "UDP"},))
    follower = Follower(cluster.open(), "")
    follower.wait_for_mark()
    found = {app: list(seen(follower, app)) for app in follower.apps}
    assert found == {"protocol": [f"{A}:7"], "name": [f"{A}:8"], "only": [f"{A}:9090"]}
    assert follower.watch.skipped == 2
    assert "'slice d' is skipped: of its TCP ports (metrics:9090, web:80)" in caplog.text
    for port in ("web", "80"):
        named = Follower(cluster.open(f"&port={port}"), "unclear")
        named.wait(lambda known=named: list(seen(known, "unclear")) == [f"{A}:80"], "the named port")


def test_what_pods_say_becomes_the_instances(cluster, caplog):
    """Labels, unit, region, weight, revision and start come from the pod, and follow it; bad values count as none."""
    labels = {"version": "v1", "meshsdk.io/unit": "u1", "topology.kubernetes.io/region": "eu"}
    notes = {"meshsdk.io/weight": "7", "meshsdk.io/revision": "r1", "meshsdk.io/started-at": "12.5"}
    cluster.put_pod("p", labels=labels, annotations=notes)
    cluster.put_pod("q", annotations={"meshsdk.io/weight": "many"})
    cluster.put_slice("s", endpoint(A, pod="p"), endpoint(B, pod="q"))
    cluster.server.control("hold", plural="pods", seconds=0.3)  # the slices are there first, and wait for them
    cluster.server.control("requests")
    follower = Follower(cluster.open(), "orders")
    follower.wait(lambda: len(seen(follower)) == 2, "both pods")
    cluster.server.control("hold", plural="pods", seconds=0)
    asked = [each for each in cluster.server.control("requests")["requests"] if "/pods" in each]
    assert asked
    assert all("(metadata)" in each for each in asked), "pods are never asked for as a whole"
    known = follower.apps["orders"][f"{A}:50051"]
    assert known == Instance(
        "orders",
        *(f"{A}:50051", f"{A}:50051"),
        revision="r1",
        unit="u1",
        region="eu",
        weight=7,
        labels=labels,
        started_at=12.5,
    )
    other = follower.apps["orders"][f"{B}:50051"]
    assert other.weight == 1
    assert other.started_at > 1_700_000_000, "a pod's creation stands for its start"
    assert "pod q: annotation meshsdk.io/weight 'many'" in caplog.text
    assert [increment.reset for increment in follower.log] == [True], "labels do not come in later"
    cluster.put_pod("p", labels={"version": "v2"}, annotations=notes)
    follower.wait(lambda: follower.apps["orders"][f"{A}:50051"].labels == {"version": "v2"}, "the pod's new labels")
    assert Follower(cluster.open("&pods=0"), "orders").watch


def test_a_watch_of_a_unit_goes_by_the_pods_label(cluster):
    """Only the pods of the unit are told of, and a pod whose label changes moves."""
    cluster.put_pod("p", labels={"meshsdk.io/unit": "u1"})
    cluster.put_pod("q", labels={"meshsdk.io/unit": "u2"})
    cluster.put_slice("s", endpoint(A, pod="p"), endpoint(B, pod="q"))
    follower = Follower(cluster.open(), "orders", "u1")
    wait_for(follower, a=InstanceState.ONLINE)
    cluster.put_pod("q", labels={"meshsdk.io/unit": "u1"})
    wait_for(follower, a=InstanceState.ONLINE, b=InstanceState.ONLINE)


# -- instances that register themselves --------------------------------------------------------------------------------


def test_an_instance_and_its_services_endpoint_are_one(cluster):
    """What the instance says of itself counts; what Kubernetes says of the address can only make its state worse."""
    cluster.put_pod("p", labels={"version": "v1"})
    registry = cluster.open("&pod=p")
    one = Instance("orders", "one", f"{A}:50051", labels={"own": "1"}, weight=3)
    lease = registry.register(one, 15)
    follower = Follower(cluster.open(), "orders")
    merged = replace(one, labels={"version": "v1", "own": "1"})
    follower.wait_for(merged)
    cluster.put_slice("s", endpoint(A, pod="p"), endpoint(B))
    follower.wait(lambda: f"{B}:50051" in seen(follower), "the other endpoint")
    assert follower.apps["orders"]["one"] == merged
    assert len(seen(follower)) == 2
    cluster.put_slice("s", endpoint(A, pod="p", conditions={"ready": False}), endpoint(B))
    follower.wait(lambda: seen(follower)[f"{A}:50051"] is InstanceState.STARTING, "not ready for Kubernetes")
    registry.set_state(lease, InstanceState.DRAINING)
    follower.wait(lambda: seen(follower)[f"{A}:50051"] is InstanceState.DRAINING, "its own word on draining")
    registry.deregister(lease)
    follower.wait(lambda: "one" not in follower.apps["orders"], "Kubernetes' endpoint again")
    assert seen(follower)[f"{A}:50051"] is InstanceState.STARTING


def test_the_slice_of_an_instance_is_one_that_others_understand(cluster):
    """It belongs to the Service and to the pod, and its conditions say what the state says."""
    cluster.put_pod("p")
    registry = cluster.open("&pod=p")
    lease = registry.register(Instance("orders", "one", f"{A}:50051", zone="z"), 15)
    registry.set_state(lease, InstanceState.DRAINING)
    path = f"/apis/discovery.k8s.io/v1/namespaces/{cluster.namespace}/endpointslices"
    (found,) = cluster.server.ask("GET", path)["items"]
    assert found["metadata"]["labels"]["kubernetes.io/service-name"] == "orders"
    assert [owner["name"] for owner in found["metadata"]["ownerReferences"]] == ["p"]
    (known,) = found["endpoints"]
    assert known["conditions"] == {"ready": False, "serving": True, "terminating": True}
    assert (known["addresses"], known["zone"]) == ([A], "z")
    assert (found["addressType"], found["ports"][0]["port"]) == ("IPv4", 50051)
    cluster.server.delete("pods", cluster.namespace, "p")
    assert cluster.server.ask("GET", path)["items"] == []


def test_only_pods_register(cluster, monkeypatch):
    """Outside of a pod, and for a pod that does not exist, registering is refused in words that say what to do."""
    monkeypatch.delenv("POD_NAME", raising=False)
    one = Instance("orders", "one", f"{A}:50051")
    with pytest.raises(RegistryError, match="set POD_NAME"):
        cluster.open().register(one, 15)
    with pytest.raises(RegistryError, match='pods "nobody" not found'):
        cluster.open("&pod=nobody").register(one, 15)
    cluster.put_pod("p")
    with pytest.raises(RegistryError, match="at most 63"):
        cluster.open("&pod=p").register(replace(one, app="a" * 64), 15)


# -- lost places -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("as_status", [False, True], ids=["ERROR event", "HTTP 410"])
def test_a_lost_place_is_found_again_without_a_removal(cluster, as_status):
    """410 Gone: the collection is listed anew, what went meanwhile is gone, and nothing else was ever away."""
    cluster.put_slice("s1", endpoint(A))
    cluster.put_slice("s2", endpoint(B))
    follower = Follower(cluster.open(), "orders")
    wait_for(follower, a=InstanceState.ONLINE, b=InstanceState.ONLINE)
    told = len(follower.log)
    cluster.server.kill()
    cluster.server.start()
    cluster.server.control("gone_as_status", value=as_status)
    cluster.remove_slice("s2")
    cluster.server.control("compact")
    wait_for(follower, a=InstanceState.ONLINE)
    for increment in follower.log[told:]:
        assert f"{A}:50051" not in increment.removed
        assert not increment.reset or f"{A}:50051" in {instance.address for instance in increment.put}
    cluster.server.control("gone_as_status", value=False)


def test_bookmarks_keep_the_place(cluster):
    """A quiet watcher is carried along by bookmarks: after a compaction it goes on without listing anew."""
    cluster.put_slice("s1", endpoint(A))
    follower = Follower(cluster.open(), "orders")
    wait_for(follower, a=InstanceState.ONLINE)
    for number in range(20):
        cluster.put_slice("noise", endpoint("10.0.9.9"), app=f"other-{number}")
    seen_now = cluster.server.control("state")["bookmarks"]
    until(lambda: cluster.server.control("state")["bookmarks"] > seen_now + 4, "bookmarks for slices and for pods")
    cluster.server.control("compact")
    cluster.lists()
    cluster.server.control("end_watches")
    cluster.put_slice("s2", endpoint(B))
    wait_for(follower, a=InstanceState.ONLINE, b=InstanceState.ONLINE)
    assert cluster.lists() == 0
    assert [increment.reset for increment in follower.log] == [True, False]


def test_an_ended_watch_goes_on_from_where_it_was(cluster):
    """The server ends watches whenever it likes: what happened in between comes, without a list."""
    cluster.put_slice("s1", endpoint(A))
    follower = Follower(cluster.open(), "orders")
    wait_for(follower, a=InstanceState.ONLINE)
    cluster.lists()
    for _ in range(3):
        for state in (False, True):  # one that it hears in the watch, and one that comes after its end
            cluster.put_slice("s1", endpoint(A, conditions={"ready": state}))
            if state:
                cluster.server.control("end_watches")
            wait_for(follower, a=InstanceState.ONLINE if state else InstanceState.STARTING)
    assert cluster.lists() == 0


def listed(cluster, count: int) -> int:
    """Returns how many lists were asked for, once there are `count`: the server counts one after it has answered it."""
    found = 0

    def enough() -> bool:
        nonlocal found
        found += cluster.lists()
        return found >= count

    until(enough, f"{count} lists")
    return found


def test_a_list_comes_in_pages(cluster):
    """1,200 slices come in three pages; when the server forgets the list after the first one, it is read as a whole."""
    for number in range(1200):
        cluster.put_slice(f"s{number}", endpoint(f"10.2.{number // 250}.{number % 250 + 1}"))
    cluster.lists()
    registry = cluster.open("&pods=0")
    follower = Follower(registry, "orders")
    follower.wait(lambda: len(seen(follower)) == 1200, "all")
    assert listed(cluster, 3) == 3
    cluster.server.control("refuse", codes=[0, 410])
    again = Follower(registry, "orders")
    again.wait(lambda: len(seen(again)) == 1200, "all, again")
    assert listed(cluster, 3) == 3
    assert len(again.log) == 1


def test_a_server_that_asks_for_patience_gets_it(cluster, caplog):
    """429 with Retry-After: the watch waits and goes on; the log tells it once."""
    cluster.put_slice("s1", endpoint(A))
    cluster.server.control("refuse", codes=[429, 429])
    follower = Follower(cluster.open("&pods=0"), "orders")
    wait_for(follower, a=InstanceState.ONLINE)
    assert caplog.text.count("broke (cannot list") == 1
    assert "429" in caplog.text


# -- rights, tokens, TLS -----------------------------------------------------------------------------------------------


@pytest.fixture
def guarded(tmp_path) -> Iterator[tuple[KubernetesFake, Path]]:
    """A server with TLS that wants a token, and the folder with its `ca.pem` and `token`."""
    (tmp_path / "ca.pem").write_bytes(channel_tls._CERTIFICATE)
    (tmp_path / "key.pem").write_bytes(channel_tls._KEY)
    (tmp_path / "token").write_text("first\n")
    fake = KubernetesFake(
        cert=str(tmp_path / "ca.pem"), key=str(tmp_path / "key.pem"), token_file=str(tmp_path / "token")
    ).start()
    yield fake, tmp_path
    fake.remove()


def test_a_rotated_token_is_taken(guarded, caplog):
    """Over TLS with the cluster's authority; when the token is replaced, calls go on with the new one."""
    fake, folder = guarded
    url = f"kubernetes://localhost:{fake.port}?ca={folder}/ca.pem&token_file={folder}/token&pod=p&timeout=3"
    fake.create("pods", "default", {"metadata": {"name": "p"}})
    registry = open_registry(url, "the test")
    lease = registry.register(Instance("orders", "one", f"{A}:50051"), 15)
    (folder / "token").write_text("second\n")
    registry.renew(lease)
    follower = Follower(registry, "orders")
    follower.wait(lambda: seen(follower), "the instance")
    registry.close()
    untrusted = open_registry(url.replace("ca.pem", "token"), "the test")
    with pytest.raises(RegistryError, match="TLS"):
        untrusted.renew(lease)
    wrong = open_registry(url.replace(f"token_file={folder}/token&", ""), "the test")
    with pytest.raises(RegistryError, match="401 Unauthorized"):
        wrong.renew(lease)
    assert "second" not in caplog.text


def test_a_kubeconfig_leads_there(guarded, monkeypatch):
    """Server, authority and token come from the kubeconfig's current context."""
    fake, folder = guarded
    (folder / "config").write_text(
        f"""
current-context: here
contexts: [{{name: here, context: {{cluster: c, user: u, namespace: shop}}}}]
clusters: [{{name: c, cluster: {{server: "https://localhost:{fake.port}", certificate-authority: ca.pem}}}}]
users: [{{name: u, user: {{tokenFile: token}}}}]
"""
    )
    fake.create("pods", "shop", {"metadata": {"name": "p"}})
    monkeypatch.setenv("POD_NAME", "p")
    registry = open_registry(f"kubernetes:///?kubeconfig={folder}/config&timeout=3", "the test")
    assert registry.register(Instance("orders", "one", f"{A}:50051"), 15).ttl >= 15
    registry.close()


def test_missing_rights_are_told(caplog):
    """Without the right to see pods the endpoints are there without labels; without that to see slices, words are."""
    rules = [{"resources": ["endpointslices"], "verbs": ["list", "watch", "create"]}]
    fake = KubernetesFake(rules=rules).start()
    cluster = Cluster(fake, "default")
    try:
        cluster.put_slice("s", endpoint(A, pod="p"))
        follower = Follower(cluster.open(), "orders")
        wait_for(follower, a=InstanceState.ONLINE)
        until(lambda: "403 pods is forbidden" in caplog.text, "the log tells of the pods")
        with pytest.raises(RegistryError, match="403 configmaps is forbidden"):
            cluster.open().get_revision("orders", "r")
    finally:
        cluster.close()
        fake.remove()
