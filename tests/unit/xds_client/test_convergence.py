"""Property: whatever the order of server messages, changes and disconnects, the client ends with the server's state.

Two clients, one for each variant of the protocol, live through the same history with delays of their own. A third one
follows collections (LEDS) from two replicas of a server.
"""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from meshsdk.bootstrap import ServerConfig, Transport
from meshsdk.model.resources import Kind
from meshsdk.model.snapshot import Key
from meshsdk.xds_client.messages import Close, Open, Request, Send
from meshsdk.xds_client.store import EntryStatus
from tests.unit.xds_client.bench import LEDS, Bench
from tests.unit.xds_client.model_server import ModelStream, World

KINDS = st.sampled_from([Kind.LISTENER, Kind.ENDPOINTS])  # one type whose responses are complete, one where not
NAMES = st.sampled_from(["a", "b"])
CLIENTS = st.sampled_from([0, 1])
GLOBS = ("xdstp:///t/a/*", "xdstp:///t/b/*")
MEMBERS = st.sampled_from([f"xdstp:///t/{glob}/{identifier}" for glob in "ab" for identifier in "xyz"])


class Peer:
    """One client, its stream to the model server, and the requests on their way."""

    def __init__(self, transport: Transport, world: World) -> None:
        self.bench = Bench(transport=transport)
        self.world = world
        self.stream: ModelStream | None = None
        self.inbox: deque[Request] = deque()

    def run(self, later: float = 0.0) -> None:
        """Carries out what the machine wants done."""
        for effect in self.bench.run(later=later):
            if isinstance(effect, Open):
                assert self.stream is None, "two streams to one server"
                self.stream = ModelStream(self.world, effect.transport is Transport.DELTA)
                self.inbox.clear()
            elif isinstance(effect, Send):
                assert self.stream is not None, "sent without a stream"
                self.inbox.append(effect.request)
            elif isinstance(effect, Close):
                self.stream = None

    def deliver_request(self) -> None:
        """One request reaches the server."""
        if self.stream is not None and self.inbox:
            self.bench.machine.opened(0, self.bench.now)
            self.stream.request(self.inbox.popleft())
            self.run()

    def deliver_response(self, *, twice: bool = False) -> None:
        """One response reaches the client; with `twice` it stays to come again."""
        if self.stream is not None and self.stream.outbox:
            response = self.stream.outbox[0] if twice else self.stream.outbox.popleft()
            self.bench.machine.received(0, response, self.bench.now)
            self.run()

    def disconnect(self) -> None:
        """The connection breaks."""
        if self.stream is not None:
            self.stream = None
            self.bench.machine.closed(0, "UNAVAILABLE", "cut", self.bench.now)
            self.run()

    def exchange(self) -> None:
        """Lets everything arrive that is on its way."""
        while self.stream is not None and (self.inbox or self.stream.outbox):
            self.deliver_request()
            self.deliver_response()

    def settle(self) -> None:
        """Lets everything arrive and every timer run out."""
        for _ in range(4):
            self.run(later=60)
            self.exchange()


class History(RuleBasedStateMachine):
    """What may happen, in any order."""

    @initialize()
    def begin(self) -> None:
        """Begins with an empty server and two clients that want nothing."""
        self.world: World = {}
        self.wanted: set[Key] = set()
        self.peers = [Peer(Transport.SOTW, self.world), Peer(Transport.DELTA, self.world)]

    @rule(kind=KINDS, name=NAMES, content=st.sampled_from(["1", "2", "bad 1", None]))
    def change(self, kind: Kind, name: str, content: str | None) -> None:
        """The operator changes, breaks or removes a resource."""
        if content is None:
            self.world.pop((kind, name), None)
        else:
            self.world[kind, name] = content
        for peer in self.peers:
            if peer.stream is not None:
                peer.stream.push(kind)

    @rule(kind=KINDS, names=st.sets(NAMES))
    def want(self, kind: Kind, names: set[str]) -> None:
        """The application wants other resources of a type."""
        old = {key for key in self.wanted if key.kind is kind}
        new = {Key(kind, name) for name in names}
        self.wanted = self.wanted - old | new
        for peer in self.peers:
            peer.bench.machine.want(new - old, old - new)
            peer.run()

    @rule(client=CLIENTS)
    def deliver_request(self, client: int) -> None:
        """A request reaches the server."""
        self.peers[client].deliver_request()

    @rule(client=CLIENTS, twice=st.booleans())
    def deliver_response(self, client: int, twice: bool) -> None:
        """A response reaches the client, possibly twice."""
        self.peers[client].deliver_response(twice=twice)

    @rule()
    def exchange(self) -> None:
        """The network is quick for a while."""
        for peer in self.peers:
            peer.exchange()

    @rule(client=CLIENTS)
    def disconnect(self, client: int) -> None:
        """The connection breaks; what was on its way is lost."""
        self.peers[client].disconnect()

    @rule(client=CLIENTS, seconds=st.sampled_from([0.5, 5.0, 40.0]))
    def wait(self, client: int, seconds: float) -> None:
        """Time passes."""
        self.peers[client].run(later=seconds)

    @invariant()
    def store_holds_what_is_wanted(self) -> None:
        """Entries follow the subscription at all times: nothing leaks, nothing lacks."""
        for peer in getattr(self, "peers", ()):
            assert {entry.key for entry in peer.bench.store.entries()} == self.wanted

    def teardown(self) -> None:
        """At the end of every history the network is calm: both clients must then agree with the server."""
        for peer in getattr(self, "peers", ()):
            peer.settle()
            for key in self.wanted:
                self.check(peer, key)

    def check(self, peer: Peer, key: Key) -> None:
        """Compares one entry with the server's truth."""
        entry, truth = peer.bench.entry(key.kind, key.name), self.world.get((key.kind, key.name))
        if truth is None:
            complete = key.kind in (Kind.LISTENER, Kind.CLUSTER) or peer.bench.machine._links[0].delta
            # State of the world cannot tell that routes or endpoints are gone: the last word about them stands.
            last_word = () if complete else (EntryStatus.PRESENT, EntryStatus.INVALID)
            assert entry.status in (EntryStatus.ABSENT, *last_word)
        elif truth.startswith("bad"):
            assert entry.status is EntryStatus.INVALID
        else:
            assert entry.status is EntryStatus.PRESENT
            assert peer.bench.content(key.kind, key.name) == truth


class Follower:
    """A client of collections, its streams to two replicas of a server, and the requests on their way."""

    def __init__(self, world: World) -> None:
        self.bench = Bench(ServerConfig("one:1"), ServerConfig("two:2"), transport=Transport.DELTA)
        self.world = world
        self.streams: dict[int, ModelStream] = {}
        self.inboxes: dict[int, deque[Request]] = {}

    def run(self, later: float = 0.0) -> None:
        """Carries out what the machine wants done."""
        for effect in self.bench.run(later=later):
            if isinstance(effect, Open):
                self.streams[effect.server] = ModelStream(self.world, delta=True)
                self.inboxes[effect.server] = deque()
            elif isinstance(effect, Send):
                self.inboxes[effect.server].append(effect.request)
            else:
                del self.streams[effect.server]

    def exchange(self, server: int, steps: int) -> None:
        """Lets this many requests and responses arrive."""
        for _ in range(steps):
            if server in self.streams and self.inboxes[server]:
                self.bench.machine.opened(server, self.bench.now)
                self.streams[server].request(self.inboxes[server].popleft())
            elif server in self.streams and self.streams[server].outbox:
                self.bench.machine.received(server, self.streams[server].outbox.popleft(), self.bench.now)
            self.run()

    def disconnect(self, server: int) -> None:
        """A connection breaks."""
        if self.streams.pop(server, None) is not None:
            self.bench.machine.closed(server, "UNAVAILABLE", "cut", self.bench.now)
            self.run()

    def settle(self) -> None:
        """Lets everything arrive and every timer run out."""
        for _ in range(4):
            self.run(later=60)
            for server in (0, 1):
                self.exchange(server, 40)


class Collections(RuleBasedStateMachine):
    """What may happen to members of collections, in any order."""

    @initialize()
    def begin(self) -> None:
        """Begins with a client that has both collections, of two members each."""
        self.world: World = {(LEDS, f"{glob[:-1]}{identifier}"): "p:1" for glob in GLOBS for identifier in "xy"}
        self.wanted: set[str] = set()
        self.follower = Follower(self.world)
        self.want(set(GLOBS))
        self.follower.settle()

    @rule(name=MEMBERS, content=st.sampled_from(["p:1", "q:1", "r:1", "bad 1", None]))
    def change(self, name: str, content: str | None) -> None:
        """A member comes, moves, breaks or goes; members may share an address."""
        if content is None:
            self.world.pop((LEDS, name), None)
        else:
            self.world[LEDS, name] = content
        for stream in self.follower.streams.values():
            stream.push(LEDS)

    @rule(globs=st.sets(st.sampled_from(GLOBS)))
    def want(self, globs: set[str]) -> None:
        """The application wants other collections."""
        added, dropped = globs - self.wanted, self.wanted - globs
        self.wanted = globs
        self.follower.bench.machine.want([Key(LEDS, name) for name in added], [Key(LEDS, name) for name in dropped])
        self.follower.run()

    @rule(server=st.sampled_from([0, 1]), steps=st.integers(1, 6))
    def exchange(self, server: int, steps: int) -> None:
        """Some requests and responses of one stream arrive."""
        self.follower.exchange(server, steps)

    @rule(server=st.sampled_from([0, 0, 1]))
    def disconnect(self, server: int) -> None:
        """A connection breaks; what was on its way is lost."""
        self.follower.disconnect(server)

    @rule(seconds=st.sampled_from([0.5, 2.0, 40.0]))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.follower.run(later=seconds)

    @rule()
    def lose_the_first(self) -> None:
        """The first server goes away for so long that the second is asked; something has to be lacking for that."""
        self.want({GLOBS[0]})
        for _ in range(3):
            self.follower.disconnect(0)
            self.follower.run(later=2.0)
        self.want(set(GLOBS))

    def teardown(self) -> None:
        """At the end of every history the network is calm: the client must then agree with the server."""
        if not hasattr(self, "follower"):
            return
        self.follower.settle()
        for glob in self.wanted:
            self.check(glob)

    def check(self, glob: str) -> None:
        """Compares one collection with the server's truth."""
        prefix = glob.removesuffix("*")
        truth = {name.removeprefix(prefix): text for (_, name), text in self.world.items() if name.startswith(prefix)}
        bad = {identifier for identifier, text in truth.items() if text.startswith("bad")}
        entry, members = self.follower.bench.entry(LEDS, glob), self.follower.bench.collection(glob)
        if not truth:
            assert not members
            return
        assert entry.status is (EntryStatus.INVALID if bad else EntryStatus.PRESENT)
        assert entry.resource.refused.keys() == bad
        good = {identifier: text for identifier, text in truth.items() if identifier not in bad}
        assert {identifier: text for identifier, text in members.items() if identifier not in bad} == good
        assert members.keys() <= truth.keys()


Collections.TestCase.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)
TestCollections = Collections.TestCase


@pytest.mark.parametrize("transport", [Transport.SOTW, Transport.DELTA])
@pytest.mark.parametrize("worse", ["bad 1", None])
def test_change_taken_back_during_a_disconnect(transport, worse):
    """The server breaks or deletes a resource, and restores its old version while the client is away."""
    world: World = {(Kind.LISTENER, "a"): "1"}
    peer = Peer(transport, world)
    peer.bench.machine.want([Key(Kind.LISTENER, "a")], [])
    peer.settle()
    if worse is None:
        del world[Kind.LISTENER, "a"]
    else:
        world[Kind.LISTENER, "a"] = worse
    peer.stream.push(Kind.LISTENER)
    peer.exchange()
    assert peer.bench.entry(Kind.LISTENER, "a").status is not EntryStatus.PRESENT
    peer.disconnect()
    world[Kind.LISTENER, "a"] = "1"
    peer.settle()
    assert peer.bench.entry(Kind.LISTENER, "a").status is EntryStatus.PRESENT


History.TestCase.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)
TestConvergence = History.TestCase
