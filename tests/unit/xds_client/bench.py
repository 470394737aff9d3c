"""A machine on the bench: a codec made of text, and short words for what a server does. Used by the machine's tests."""

from __future__ import annotations

from meshsdk.bootstrap import ServerConfig, Transport
from meshsdk.errors import InvalidResource
from meshsdk.model.collection import LbEndpoint
from meshsdk.model.endpoints import Endpoint
from meshsdk.model.resources import Kind, Resource, RouteConfiguration
from meshsdk.model.snapshot import Key
from meshsdk.xds_client.machine import AdsMachine, nothing_saved
from meshsdk.xds_client.messages import Effect, Open, Received, Request, Response, Send, ServerProblem
from meshsdk.xds_client.store import Entry, Store

LDS, RDS, CDS, EDS, LEDS = Kind.LISTENER, Kind.ROUTE, Kind.CLUSTER, Kind.ENDPOINTS, Kind.LB_ENDPOINTS


def raw(name: str, content: str = "1") -> bytes:
    """The bytes of a resource in the bench's own format."""
    return f"{name}|{content}".encode()


class TextCodec:
    """Decodes `name|content`; content that starts with "bad" is refused. Counts what it is asked.

    For a resource of a collection, content is an address.
    """

    def __init__(self) -> None:
        self.calls = 0
        self.previous: list[Resource | None] = []

    def __call__(
        self, kind: Kind, raw: bytes, previous: Resource | None = None, previous_raw: bytes = b""
    ) -> tuple[str, Resource]:
        """Decodes, or refuses."""
        self.calls += 1
        self.previous.append(previous)
        name, _, content = raw.decode().partition("|")
        if content.startswith("bad"):
            raise InvalidResource(f"field x: {content}")
        if content == "defect":
            raise KeyError("a defect of the codec")
        if kind is LEDS:
            return "", LbEndpoint(Endpoint(content))
        return name, RouteConfiguration(name, (), ignored=(content,))


def received(kind: Kind, name: str, content: str = "1", version: str = "", *, named: bool = False) -> Received:
    """One resource of a response."""
    return Received(name, raw(name, content), kind.value, version, named)


class Bench:
    """A machine with one clock reading; `requests` are those of the last `run`."""

    def __init__(self, *servers: ServerConfig, transport: Transport = Transport.SOTW, last_good=nothing_saved):
        self.codec = TextCodec()
        self.store = Store()
        self.now = 100.0
        self.machine = AdsMachine(
            servers or (ServerConfig("one:1"),),
            self.store,
            self.codec,
            lambda: 0.5,
            transport=transport,
            last_good=last_good,
        )
        self.changed: set[Key] = set()
        self.nonce = 0

    def want(self, kind: Kind, *names: str) -> list[Effect]:
        """Wants names, and returns what follows."""
        self.machine.want([Key(kind, name) for name in names], [])
        return self.run()

    def unwant(self, kind: Kind, *names: str) -> list[Effect]:
        """Gives names up, and returns what follows."""
        self.machine.want([], [Key(kind, name) for name in names])
        return self.run()

    def run(self, *, later: float = 0.0) -> list[Effect]:
        """Lets time pass, then takes what the machine wants done."""
        self.now += later
        self.machine.tick(self.now)
        effects = self.machine.effects(self.now)
        self.changed = self.machine.changed()
        return effects

    def connect(self, server: int = 0) -> None:
        """The first request has left."""
        self.machine.opened(server, self.now)

    def respond(
        self,
        kind: Kind,
        *resources: Received | str,
        version: str = "v1",
        server: int = 0,
        removed: tuple[str, ...] = (),
        problems: tuple[ServerProblem, ...] = (),
        type_url: str = "",
    ) -> list[Effect]:
        """A response with a nonce of its own; a resource given as text is its name."""
        self.nonce += 1
        full = tuple(received(kind, r) if isinstance(r, str) else r for r in resources)
        response = Response(type_url or kind.value, version, f"n{self.nonce}", full, removed, problems)
        self.machine.received(server, response, self.now)
        return self.run()

    def close(self, code: str = "UNAVAILABLE", details: str = "gone", server: int = 0) -> list[Effect]:
        """The stream breaks; returns what follows."""
        self.machine.closed(server, code, details, self.now)
        return self.run()

    def entry(self, kind: Kind, name: str) -> Entry:
        """The entry of a wanted resource."""
        entry = self.store.get(Key(kind, name))
        assert entry is not None, f"{kind} {name} is not in the store"
        return entry

    def content(self, kind: Kind, name: str) -> str | None:
        """The content of the resource in force."""
        resource = self.entry(kind, name).resource
        return None if resource is None else resource.ignored[0]

    def collection(self, name: str) -> dict[str, str] | None:
        """The members in force of a collection: address by id."""
        resource = self.entry(LEDS, name).resource
        if resource is None:
            return None
        found = {member.id: member.endpoint.address for member in resource.members}
        assert len(found) == len(resource.members)
        assert set(found.values()) == {endpoint.address for endpoint in resource.endpoints}
        assert len(resource.endpoints) == len(set(found.values()))
        return found


def sent(effects: list[Effect], server: int | None = None) -> list[Request]:
    """The requests among effects."""
    return [e.request for e in effects if isinstance(e, Send) and server in (None, e.server)]


def opened(effects: list[Effect]) -> list[Open]:
    """The streams to be opened among effects."""
    return [e for e in effects if isinstance(e, Open)]
