"""What `serve` is given, made into an instance, and the mistakes it refuses before it starts anything."""

from __future__ import annotations

import pytest

from meshsdk.bootstrap import load_bootstrap
from meshsdk.discovery.controlplane import ControlPlaneRegistry
from meshsdk.discovery.memory import MemoryRegistry
from meshsdk.errors import BootstrapError, ConfigurationError
from meshsdk.lifecycle.offer import Identity, Sources, make_offer
from meshsdk.lifecycle.server_parts import ServerParts
from meshsdk.model.instance import InstanceState

REGISTRY = MemoryRegistry()
ORDERS = Identity("orders", "10.0.0.1:50051")


def get(request, context):
    """A handler."""


PARTS = ServerParts({"/a.B/Get": get, "/grpc.health.v1.Health/Check": get}, (), None)


def offer(identity: Identity = ORDERS, parts=PARTS, **sources):
    """An offer into a registry of the test's, unless said otherwise."""
    return make_offer(identity, parts, Sources(**{"registry": REGISTRY, **sources}))


def test_an_offer_is_an_instance_with_its_revision():
    """The instance is STARTING, has an id of its own each time, and points at the revision."""
    first, second = offer(), offer()
    assert first.instance.id != second.instance.id
    assert first.instance.state is InstanceState.STARTING
    assert first.instance.revision == first.revision.revision == second.revision.revision
    assert first.instance.started_at > 1_700_000_000
    assert first.services == ("a.B", "grpc.health.v1.Health")
    assert first.has_health


def test_labels_and_place_come_from_the_node_and_are_overridden():
    """The bootstrap's node gives labels, region and zone; metadata and zone of the call go before."""
    bootstrap = load_bootstrap(
        {
            "xds_servers": [{"server_uri": "127.0.0.1:1", "channel_creds": [{"type": "insecure"}]}],
            "node": {
                "id": "n",
                "locality": {"region": "r", "zone": "z"},
                "metadata": {"LABELS": {"version": "v1", "tier": "gold", "odd": 5}},
            },
        },
        {},
    )
    plain = offer(bootstrap=bootstrap).instance
    assert (plain.region, plain.zone, dict(plain.labels)) == ("r", "z", {"version": "v1", "tier": "gold"})
    identity = Identity("orders", "10.0.0.1:50051", metadata={"version": "v2"}, zone="here", unit="u", weight=5)
    ours = offer(identity, bootstrap=bootstrap).instance
    assert (ours.zone, ours.unit, ours.weight) == ("here", "u", 5)
    assert dict(ours.labels) == {"version": "v2", "tier": "gold"}


@pytest.mark.parametrize(
    ("address", "resolved"),
    [("localhost:50051", "127.0.0.1:50051"), ("127.0.0.1:1", "127.0.0.1:1"), ("[::1]:65535", "[::1]:65535")],
)
def test_host_names_are_resolved(address, resolved):
    """xDS endpoints have IPs, so a name is resolved when the service starts."""
    assert offer(Identity("orders", address)).instance.address == resolved


@pytest.mark.parametrize(
    ("identity", "words"),
    [
        (Identity("", "10.0.0.1:1"), "is not a name"),
        (Identity("a b", "10.0.0.1:1"), "is not a name"),
        (Identity("orders", "10.0.0.1"), "is not host:port"),
        (Identity("orders", ":50051"), "is not host:port"),
        (Identity("orders", "::1:50051"), "is not host:port"),
        (Identity("orders", "dns:///orders:50051"), "is not host:port"),
        (Identity("orders", "10.0.0.1:0"), "port from 1 to 65535"),
        (Identity("orders", "10.0.0.1:http"), "port from 1 to 65535"),
        (Identity("orders", "0.0.0.0:50051"), "no address that peers can dial"),
        (Identity("orders", "[::]:50051"), "no address that peers can dial"),
        (Identity("orders", "no-such-host.invalid:1"), "does not resolve"),
        (Identity("orders", "10.0.0.1:1", weight=0), "weight 0"),
        (Identity("orders", "10.0.0.1:1", metadata={"n": 1}), "text for text"),
        (Identity("orders", "10.0.0.1:1", metadata={"": "x"}), "label ''"),
        (Identity("orders", "10.0.0.1:1", unit="u" * 300), "unit is longer"),
    ],
)
def test_mistakes_are_refused_in_words(identity, words):
    """Each wrong argument is named, with what is wrong about it."""
    with pytest.raises(ConfigurationError, match=words):
        offer(identity)


def test_a_server_that_cannot_be_read_asks_for_its_services():
    """Unknown insides and unlisted handlers are told, with the argument that helps; that argument then works."""
    with pytest.raises(ConfigurationError, match="pass services="):
        offer(parts=None)
    with pytest.raises(ConfigurationError, match=r"handlers Proxy.*services=\{\}"):
        offer(parts=ServerParts({}, ("Proxy",), None))
    servicer = type("Servicer", (), {"Get": get})()
    assert offer(parts=None, services={"a.B": servicer}).services == ("a.B",)
    assert offer(parts=ServerParts({}, ("Proxy",), None), services={}).services == ()


def test_the_registry_is_the_control_plane_unless_the_bootstrap_says():
    """The first xds server, or meshsdk.registries.default; other schemes and missing bootstraps are errors in words."""
    server = {"server_uri": "127.0.0.1:1", "channel_creds": [{"type": "insecure"}]}

    def opened(meshsdk=None):
        bootstrap = load_bootstrap({"xds_servers": [server], **({"meshsdk": meshsdk} if meshsdk else {})}, {})
        made = offer(registry=None, bootstrap=bootstrap)
        assert made.opened
        assert isinstance(made.registry, ControlPlaneRegistry)
        made.registry.close()
        return made.registry.server

    assert opened() == "127.0.0.1:1"
    assert opened({"registries": {"default": {"url": "grpc://127.0.0.1:2"}}}) == "127.0.0.1:2"
    assert opened({"registries": {"other": {"url": "etcd://127.0.0.1:2"}}}) == "127.0.0.1:1"
    for url, words in [("ftp://127.0.0.1:2", "none of"), ("grpc://127.0.0.1:2/x", "expected grpc://HOST:PORT")]:
        with pytest.raises(BootstrapError, match=words):
            opened({"registries": {"default": {"url": url}}})


def test_without_a_bootstrap_serve_says_what_to_set(monkeypatch):
    """No registry, no bootstrap, no environment: the error names the variables."""
    monkeypatch.delenv("GRPC_XDS_BOOTSTRAP", raising=False)
    monkeypatch.delenv("GRPC_XDS_BOOTSTRAP_CONFIG", raising=False)
    with pytest.raises(BootstrapError, match="GRPC_XDS_BOOTSTRAP"):
        offer(registry=None)
