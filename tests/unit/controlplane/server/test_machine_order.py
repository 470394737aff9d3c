"""Make before break on an aggregated stream: what is sent when, by which acknowledgements it waits."""

from __future__ import annotations

import pytest

from controlplane.server.machine import DeltaRequest, SotwRequest, StreamMachine
from tests.unit.controlplane.server.packs import CDS, EDS, LDS, RDS, names, packed, snapshot

SHORT = {CDS: "CDS", EDS: "EDS", LDS: "LDS", RDS: "RDS"}


class Proxy:
    """A client as Envoy is one: wildcards for clusters and listeners, names for the rest. Acknowledges when told."""

    def __init__(self, *, delta: bool, routes=("r",), endpoints=("a", "b")) -> None:
        self.machine = StreamMachine(delta=delta, aggregated=True)
        self.delta = delta
        self.now = snapshot()
        self.nonces: dict[str, str] = {}
        self.wanted = {CDS: (), LDS: (), RDS: routes, EDS: endpoints}

    def connect(self, *resources):
        """Subscribes to all types and acknowledges the first answers."""
        self.now = snapshot(*resources)
        for type_url in (CDS, EDS, LDS, RDS):
            self._send(type_url, first=True)
        while self.read():
            pass
        for type_url in tuple(self.nonces):
            self.answer(type_url)

    def _send(self, type_url, *, first=False, error=None):
        wanted, nonce = self.wanted[type_url], self.nonces.get(type_url, "")
        if self.delta:
            request = DeltaRequest(type_url, wanted if first else (), (), nonce, {}, error)
        else:
            request = SotwRequest(type_url, wanted, nonce, "", error)
        self.machine.receive(request, self.now)

    def answer(self, type_url, error=None):
        """Sends ACK, or NACK with a text, for the last response of a type."""
        self._send(type_url, error=error)

    def read(self):
        """Returns the next response as words, such as "CDS a b" or "CDS -a"; "" if there is none."""
        reply = self.machine.next_reply(self.now)
        if reply is None:
            return ""
        self.nonces[reply.type_url] = reply.nonce
        gone = [f"-{name}" for name in reply.removed]
        return " ".join([SHORT[reply.type_url], *names(reply.resources), *gone])

    def commit(self, *resources):
        """Changes the cache in one step."""
        before, self.now = self.now, snapshot(*resources)
        for held in (before, self.now):
            for type_url, known in held.types.items():
                for found in known:
                    self.machine.touch(type_url, found.name)


def world(cluster: str, version: str = "1"):
    """A consistent configuration whose listener and route lead to `cluster`."""
    return (
        packed(CDS, cluster),
        packed(EDS, cluster),
        packed(LDS, "l", f"{cluster}{version}"),
        packed(RDS, "r", f"{cluster}{version}"),
    )


@pytest.mark.parametrize("delta", [False, True])
def test_new_cluster_goes_before_routes_and_old_one_after(delta):
    """A route moves from cluster a to b in one commit: b, then (ACKed) listener and route, then (ACKed) a goes."""
    proxy = Proxy(delta=delta)
    proxy.connect(*world("a"))
    proxy.commit(*world("b"))
    assert proxy.read() == ("CDS b" if delta else "CDS b a")
    assert proxy.read() == "EDS b"
    assert proxy.read() == ""
    proxy.answer(EDS)
    assert proxy.read() == ""
    proxy.answer(CDS)
    assert proxy.read() == "LDS l@b1"
    assert proxy.read() == "RDS r@b1"
    assert proxy.read() == ""
    proxy.answer(LDS)
    assert proxy.read() == ""
    proxy.answer(RDS)
    assert proxy.read() == ("CDS -a" if delta else "CDS b")
    assert proxy.read() == ("EDS -a" if delta else "")
    assert proxy.read() == ""


@pytest.mark.parametrize("delta", [False, True])
def test_client_that_rejects_its_routes_keeps_the_old_cluster(delta):
    """After a NACK of the new route the old cluster stays, for the old route leads to it; a good route lets it go."""
    proxy = Proxy(delta=delta)
    proxy.connect(*world("a"))
    proxy.commit(*world("b"))
    for type_url in (CDS, EDS):
        proxy.read()
        proxy.answer(type_url)
    proxy.read()
    proxy.read()
    proxy.answer(LDS)
    proxy.answer(RDS, error="no")
    assert proxy.read() == ""
    proxy.commit(*world("b", "2"))
    assert proxy.read() == "LDS l@b2"
    assert proxy.read() == "RDS r@b2"
    proxy.answer(LDS)
    proxy.answer(RDS)
    assert proxy.read() == ("CDS -a" if delta else "CDS b")


@pytest.mark.parametrize("delta", [False, True])
def test_rejected_cluster_does_not_hold_up_routes(delta):
    """After a NACK of clusters listeners and routes go on: one bad cluster must not freeze the rest."""
    proxy = Proxy(delta=delta)
    proxy.connect(*world("a"))
    proxy.commit(*world("a", "2"), packed(CDS, "bad"))
    assert proxy.read() == ("CDS bad" if delta else "CDS a bad")
    # Sent whole, cluster a is not new, so its endpoints are not repeated.
    assert proxy.read() == ""
    proxy.answer(CDS, error="bad is bad")
    assert proxy.read() == "LDS l@a2"


@pytest.mark.parametrize("delta", [False, True])
def test_endpoints_flow_while_clusters_warm(delta):
    """Envoy holds back the ACK of clusters until they are warm; endpoint changes of others go on meanwhile."""
    proxy = Proxy(delta=delta)
    proxy.connect(*world("a"))
    proxy.commit(*world("a"), packed(CDS, "b"))
    proxy.read()
    changed = [packed(EDS, "a", "2") if found.type_url == EDS else found for found in world("a")]
    proxy.commit(*changed, packed(CDS, "b"))
    assert proxy.read() == "EDS a@2"


@pytest.mark.parametrize("delta", [False, True])
def test_changed_cluster_takes_its_endpoints_along(delta):
    """A cluster that changed is followed by its endpoints, unchanged as they are: Envoy warms it with them."""
    proxy = Proxy(delta=delta)
    proxy.connect(*world("a"))
    changed = [packed(CDS, "a", "2") if found.type_url == CDS else found for found in world("a")]
    proxy.commit(*changed)
    assert proxy.read() == "CDS a@2"
    assert proxy.read() == "EDS a"
    assert proxy.read() == ""


@pytest.mark.parametrize("delta", [False, True])
def test_question_for_a_route_brings_missing_clusters_first(delta):
    """A route that is asked for while clusters are unacknowledged is answered at once, after the clusters it needs."""
    proxy = Proxy(delta=delta, routes=())
    proxy.wanted[RDS] = ("r",)
    proxy.now = snapshot(*world("a"))
    proxy._send(CDS, first=True)
    assert proxy.read() == "CDS a"
    proxy.commit(*world("b"))
    assert proxy.read() == ""
    proxy._send(RDS, first=True)
    assert proxy.read() == ("CDS b" if delta else "CDS b a")
    assert proxy.read() == "RDS r@b1"


def test_kept_clusters_have_a_version_of_their_own():
    """A proxy that reconnects between make and break is not taken for one that has the new state."""
    proxy = Proxy(delta=False)
    proxy.connect(*world("a"))
    proxy.commit(*world("b"))
    kept = proxy.machine.next_reply(proxy.now)
    assert names(kept.resources) == ["b", "a"]
    again = StreamMachine(delta=False, aggregated=True)
    again.receive(SotwRequest(CDS, version=kept.version), proxy.now)
    assert names(again.next_reply(proxy.now).resources) == ["b"]


def test_separate_stream_knows_no_order():
    """On a stream of clusters alone removals go out with the change: no routes are there to wait for."""
    machine = StreamMachine(delta=True, aggregated=False)
    before, after = snapshot(packed(CDS, "a")), snapshot(packed(CDS, "b"))
    machine.receive(DeltaRequest(CDS), before)
    nonce = machine.next_reply(before).nonce
    machine.receive(DeltaRequest(CDS, nonce=nonce), after)
    reply = machine.next_reply(after)
    assert (names(reply.resources), list(reply.removed)) == (["b"], ["a"])


def test_client_without_routes_loses_clusters_at_once():
    """On an aggregated stream where nobody asked for listeners or routes, removed clusters go without waiting."""
    machine = StreamMachine(delta=True, aggregated=True)
    before, after = snapshot(packed(CDS, "a")), snapshot()
    machine.receive(DeltaRequest(CDS), before)
    nonce = machine.next_reply(before).nonce
    machine.receive(DeltaRequest(CDS, nonce=nonce), after)
    assert machine.next_reply(after).removed == ("a",)


class Caller:
    """A client as gRPC is one: it names its clusters, and asks for new ones when it has the routes to them."""

    def __init__(self, *, delta: bool) -> None:
        self.machine = StreamMachine(delta=delta, aggregated=True)
        self.delta = delta
        self.now = snapshot(*world("a"))
        self.names: dict[str, tuple[str, ...]] = {}
        self.nonces: dict[str, str] = {}
        for type_url, name in ((LDS, "l"), (RDS, "r"), (CDS, "a"), (EDS, "a")):
            self.ask(type_url, name)
            self.read()

    def ask(self, type_url, *wanted):
        """Asks for these names and no others."""
        before = self.names.get(type_url, ())
        self.names[type_url] = wanted
        nonce = self.nonces.get(type_url, "")
        if self.delta:
            news, gone = set(wanted) - set(before), set(before) - set(wanted)
            request = DeltaRequest(type_url, tuple(news), tuple(gone))
        else:
            request = SotwRequest(type_url, wanted, nonce)
        self.machine.receive(request, self.now)

    def read(self):
        """Returns the next response as words and acknowledges it; "" if there is none."""
        reply = self.machine.next_reply(self.now)
        if reply is None:
            return ""
        self.nonces[reply.type_url] = reply.nonce
        names_now = () if self.delta else self.names[reply.type_url]
        answer = DeltaRequest(reply.type_url, nonce=reply.nonce)
        self.machine.receive(answer if self.delta else SotwRequest(reply.type_url, names_now, reply.nonce), self.now)
        gone = [f"-{name}" for name in reply.removed]
        return " ".join([SHORT[reply.type_url], *names(reply.resources), *gone])

    def commit(self, *resources):
        """Changes the cache in one step."""
        Proxy.commit(self, *resources)


@pytest.mark.parametrize("delta", [False, True])
def test_client_that_names_its_clusters_drops_them_itself(delta):
    """After new routes it is told nothing of the old cluster: it has calls on it until the new one is there."""
    caller = Caller(delta=delta)
    caller.commit(*world("b"))
    assert [caller.read() for _ in range(3)] == ["LDS l@b1", "RDS r@b1", ""]
    assert (CDS, "a") in caller.machine.withheld
    caller.ask(CDS, "a", "b")
    assert [caller.read(), caller.read()] == ["CDS b" if delta else "CDS b a", ""]
    caller.ask(EDS, "a", "b")
    assert [caller.read(), caller.read()] == ["EDS b", ""]
    caller.ask(CDS, "b")
    caller.ask(EDS, "b")
    assert not caller.machine.withheld
    assert caller.read() == ""
    caller.machine.let_go()
    assert caller.read() == ""


@pytest.mark.parametrize("delta", [False, True])
def test_client_that_does_not_drop_a_cluster_is_told(delta):
    """What it still names after a while it is told to be gone; what goes from then on has its own time."""
    caller = Caller(delta=delta)
    caller.commit(*world("b"))
    while caller.read():
        pass
    caller.machine.let_go()
    assert [caller.read(), caller.read()] == (["CDS -a", "EDS -a"] if delta else ["CDS", ""])
    assert not caller.machine.withheld
    caller.commit(*world("a", "2"))
    while caller.read():
        pass
    caller.commit(*world("b", "3"))
    assert [caller.read() for _ in range(3)] == ["LDS l@b3", "RDS r@b3", ""]
    assert (CDS, "a") in caller.machine.withheld


def test_client_of_clusters_alone_loses_named_ones_at_once():
    """Without listeners or routes on its stream a client has nothing by which it would drop a cluster."""
    machine = StreamMachine(delta=True, aggregated=True)
    before, after = snapshot(packed(CDS, "a")), snapshot()
    machine.receive(DeltaRequest(CDS, ("a",)), before)
    nonce = machine.next_reply(before).nonce
    machine.receive(DeltaRequest(CDS, nonce=nonce), after)
    machine.touch(CDS, "a")
    assert machine.next_reply(after).removed == ("a",)
