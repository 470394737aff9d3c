"""Whatever the order of commits, requests, deliveries and refusals: clients end with what the cache holds.

A model client that knows the protocol only from its documentation talks to the machine over two queues, which stand
for the network: each step delivers one message in one direction, or commits, or subscribes.
"""

from __future__ import annotations

from collections import deque

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from controlplane.server.machine import DeltaRequest, SotwRequest, StreamMachine
from controlplane.server.resource_map import EMPTY, Packed, Snapshot
from tests.unit.controlplane.server.packs import CDS, EDS, LDS, LEDS, RDS, packed

TYPES = (CDS, EDS, LDS, RDS)
NAMES = ("a", "b", "c")
SETTINGS = settings(
    max_examples=80, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


class Client:
    """What any xDS client keeps. `delta` says which protocol it speaks."""

    def __init__(self, *, delta: bool) -> None:
        self.delta = delta
        self.wanted: dict[str, set[str]] = {}  # by type; "*" among the names
        self.held: dict[str, dict[str, Packed]] = {type_url: {} for type_url in TYPES}
        self.nonces: dict[str, str] = {}
        self.to_server: deque = deque()

    def want(self, type_url: str, names: set[str]) -> None:
        """Changes the subscription of a type and asks for it."""
        before = self.wanted.get(type_url, set())
        self.wanted[type_url] = names
        if self.delta:
            request = DeltaRequest(type_url, tuple(sorted(names - before)), tuple(sorted(before - names)))
            self.to_server.append(request)
        else:
            self.to_server.append(SotwRequest(type_url, tuple(sorted(names)), self.nonces.get(type_url, "")))
        if "*" not in names:
            self.held[type_url] = {name: found for name, found in self.held[type_url].items() if name in names}

    def receive(self, reply, *, refuse: bool) -> None:
        """Takes a response, or refuses it, and answers."""
        self.nonces[reply.type_url] = reply.nonce
        if not refuse:
            self._apply(reply)
        error = "refused" if refuse else None
        if self.delta:
            self.to_server.append(DeltaRequest(reply.type_url, nonce=reply.nonce, error=error))
        else:
            names = tuple(sorted(self.wanted[reply.type_url]))
            self.to_server.append(SotwRequest(reply.type_url, names, reply.nonce, reply.version, error))

    def _apply(self, reply) -> None:
        assert len({found.name for found in reply.resources}) == len(reply.resources), "a name twice in one response"
        held, wanted = self.held[reply.type_url], self.wanted[reply.type_url]
        sent = {found.name: found for found in reply.resources if found.name in wanted or "*" in wanted}
        if not self.delta and reply.type_url in {CDS, LDS}:
            held.clear()
        held.update(sent)
        for name in reply.removed:
            held.pop(name, None)


class Convergence(RuleBasedStateMachine):
    """The network between one client and the machine."""

    delta = False
    wildcards = True

    def __init__(self) -> None:
        super().__init__()
        self.client = Client(delta=self.delta)
        self.machine = StreamMachine(delta=self.delta, aggregated=True, chunk=20)
        self.now = Snapshot()
        self.count = 0
        self.to_client: deque = deque()
        self.touches: deque = deque()
        self.refused = False

    def put(self, type_url: str, name: str, version: str | None = None) -> None:
        """Commits a resource with content that never was before."""
        self.count += 1
        self._commit(type_url, name, packed(type_url, name, version or str(self.count)))

    def _commit(self, type_url: str, name: str, found: Packed | None) -> None:
        known = self.now.of(type_url)
        after = known.updated([found]) if found is not None else known.updated(removed=[name])
        self.now = Snapshot({**self.now.types, type_url: after})
        self.touches.append((type_url, name))

    @rule(type_url=st.sampled_from(TYPES), name=st.sampled_from(NAMES))
    def set(self, type_url, name):
        """A resource is added or changed."""
        self.put(type_url, name)

    @rule(type_url=st.sampled_from(TYPES), name=st.sampled_from(NAMES))
    def delete(self, type_url, name):
        """A resource is removed."""
        self._commit(type_url, name, None)

    @rule(type_url=st.sampled_from(TYPES), names=st.sets(st.sampled_from((*NAMES, "*")), min_size=1))
    def subscribe(self, type_url, names):
        """The client changes what it wants."""
        if "*" in names and type_url not in {CDS, LDS}:
            names = names - {"*"} or {"a"}
        self.client.want(type_url, names)

    @rule()
    def tell(self):
        """The machine hears of the oldest commit it was not told of."""
        if self.touches:
            self.machine.touch(*self.touches.popleft())

    @rule()
    def send(self):
        """The server's writer sends one response if there is one; what is at rest has none."""
        at_rest = self.machine.at_rest(self.now)
        reply = self.machine.next_reply(self.now)
        assert not (at_rest and reply)
        if reply is not None:
            self.to_client.append(reply)

    @rule()
    def arrive_at_server(self):
        """The oldest request on its way arrives."""
        if self.client.to_server:
            self.machine.receive(self.client.to_server.popleft(), self.now)

    @rule(refuse=st.sampled_from([False, False, False, True]))
    def arrive_at_client(self, refuse):
        """The oldest response on its way arrives and is accepted or not."""
        if self.to_client:
            self.refused = self.refused or refuse
            self.client.receive(self.to_client.popleft(), refuse=refuse)

    def drain(self) -> None:
        """Lets everything on its way arrive until nothing moves."""
        for _ in range(500):
            before = (len(self.touches), len(self.to_client), len(self.client.to_server))
            self.tell()
            self.arrive_at_server()
            self.arrive_at_client(refuse=False)
            reply = None if self.machine.at_rest(self.now) else self.machine.next_reply(self.now)
            if reply is not None:
                self.to_client.append(reply)
            if before == (0, 0, 0) and reply is None:
                if not self.machine.withheld:
                    return
                self.machine.let_go()  # the time that the server gives the client to drop what is gone
        raise AssertionError("client and server never come to rest")

    def teardown(self):
        """At rest, and after refused versions were mended, the client holds what it wants of what there is."""
        self.drain()
        if self.refused:
            for type_url in TYPES:
                for found in tuple(self.now.of(type_url)):
                    self.put(type_url, found.name)
            self.drain()
        for type_url, wanted in self.client.wanted.items():
            there = {found.name: found.version for found in self.now.of(type_url)}
            expected = there if "*" in wanted else {name: there[name] for name in wanted if name in there}
            held = {name: found.version for name, found in self.client.held[type_url].items()}
            if not self.delta and type_url in {EDS, RDS}:
                held = {name: version for name, version in held.items() if name in there}  # no word for "gone"
            assert held == expected, type_url


class DeltaConvergence(Convergence):
    """The same over the incremental protocol."""

    delta = True


class NothingDangles(RuleBasedStateMachine):
    """A client as Envoy: all clusters, one route that leads to a cluster. It must always hold that cluster."""

    delta = False

    def __init__(self) -> None:
        super().__init__()
        self.client = Client(delta=self.delta)
        self.machine = StreamMachine(delta=self.delta, aggregated=True)
        self.now = self._world("a")
        self.to_client: deque = deque()
        self.client.want(CDS, {"*"})
        self.client.want(LDS, {"*"})
        self.asked = False

    def _world(self, cluster: str) -> Snapshot:
        route = packed(RDS, "r", cluster)
        return Snapshot({CDS: EMPTY.updated([packed(CDS, cluster)]), RDS: EMPTY.updated([route])})

    @rule(cluster=st.sampled_from(NAMES))
    def move(self, cluster):
        """One commit moves the route to another cluster and removes the one before."""
        self.now = self._world(cluster)
        self.machine.touch(RDS, "r")

    @rule()
    def ask_for_the_route(self):
        """The client subscribes to the route, after it asked for clusters."""
        if not self.asked:
            self.client.want(RDS, {"r"})
            self.asked = True

    @rule()
    def send(self):
        """The server's writer sends one response if there is one."""
        reply = self.machine.next_reply(self.now)
        if reply is not None:
            self.to_client.append(reply)

    @rule()
    def arrive_at_server(self):
        """The oldest request on its way arrives."""
        if self.client.to_server:
            self.machine.receive(self.client.to_server.popleft(), self.now)

    @rule(refuse=st.booleans())
    def arrive_at_client(self, refuse):
        """The oldest response on its way arrives; a route may be refused."""
        if self.to_client:
            reply = self.to_client.popleft()
            self.client.receive(reply, refuse=refuse and reply.type_url == RDS)

    @invariant()
    def route_leads_somewhere(self):
        """The cluster that the route names is held."""
        for route in self.client.held[RDS].values():
            assert route.version in self.client.held[CDS]


class DeltaNothingDangles(NothingDangles):
    """The same over the incremental protocol."""

    delta = True


class Collections(RuleBasedStateMachine):
    """A client of glob collections, with a network that breaks: it comes back with the versions that it holds."""

    KEYS = ("xdstp:///T/a", "xdstp:///T/b")

    def __init__(self) -> None:
        super().__init__()
        self.now = Snapshot()
        self.count = 0
        self.wanted: set[str] = set()
        self.held: dict[str, str] = {}  # version by name
        self._connect()

    def _connect(self) -> None:
        self.machine = StreamMachine(delta=True, aggregated=True, chunk=20)
        self.to_client: deque = deque()
        self.to_server: deque = deque()
        self.touches: deque = deque()
        if self.wanted:
            globs = tuple(f"{key}/*" for key in sorted(self.wanted))
            self.to_server.append(DeltaRequest(LEDS, globs, known=dict(self.held)))

    @rule(key=st.sampled_from(KEYS), name=st.sampled_from(NAMES), there=st.booleans())
    def commit(self, key, name, there):
        """A member is added, changed or removed."""
        self.count += 1
        put = [packed(LEDS, f"{key}/{name}", str(self.count))] if there else []
        self.now = self.now.updated(LEDS, put, () if there else [f"{key}/{name}"])
        self.touches.append(key)

    @rule(key=st.sampled_from(KEYS))
    def subscribe(self, key):
        """The client asks for a collection."""
        self.wanted.add(key)
        self.to_server.append(DeltaRequest(LEDS, (f"{key}/*",)))

    @rule(key=st.sampled_from(KEYS))
    def unsubscribe(self, key):
        """The client drops a collection and what it has of it."""
        self.wanted.discard(key)
        self.held = {name: version for name, version in self.held.items() if not name.startswith(f"{key}/")}
        self.to_server.append(DeltaRequest(LEDS, (), (f"{key}/*",)))

    @rule()
    def reconnect(self):
        """The stream breaks; the client comes back with what it holds."""
        self._connect()

    @rule()
    def tell(self):
        """The machine hears of the oldest commit it was not told of."""
        if self.touches:
            self.machine.touch_collection(LEDS, self.touches.popleft())

    @rule()
    def send(self):
        """The server's writer sends one response if there is one; what is at rest has none."""
        at_rest = self.machine.at_rest(self.now)
        reply = self.machine.next_reply(self.now)
        assert not (at_rest and reply)
        if reply is not None:
            self.to_client.append(reply)

    @rule()
    def arrive_at_server(self):
        """The oldest request on its way arrives."""
        if self.to_server:
            self.machine.receive(self.to_server.popleft(), self.now)

    @rule()
    def arrive_at_client(self):
        """The oldest response on its way arrives."""
        if self.to_client:
            reply = self.to_client.popleft()
            for found in reply.resources:
                if found.collection in self.wanted:
                    self.held[found.name] = found.version
            for name in reply.removed:
                self.held.pop(name, None)
            self.to_server.append(DeltaRequest(LEDS, nonce=reply.nonce))

    def teardown(self):
        """At rest the client holds the members of the collections that it wants, and no others."""
        for _ in range(500):
            before = (len(self.touches), len(self.to_client), len(self.to_server), self.machine.at_rest(self.now))
            self.tell()
            self.arrive_at_server()
            self.arrive_at_client()
            self.send()
            if before == (0, 0, 0, True):
                break
        else:
            raise AssertionError("client and server never come to rest")
        there = {found.name: found.version for key in self.wanted for found in self.now.collection(LEDS, key)}
        assert self.held == there


TestCollections = Collections.TestCase
TestSotwConvergence = Convergence.TestCase
TestDeltaConvergence = DeltaConvergence.TestCase
TestSotwNothingDangles = NothingDangles.TestCase
TestDeltaNothingDangles = DeltaNothingDangles.TestCase
for _case in (
    TestCollections,
    TestSotwConvergence,
    TestDeltaConvergence,
    TestSotwNothingDangles,
    TestDeltaNothingDangles,
):
    _case.settings = SETTINGS
del _case
