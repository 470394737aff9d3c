"""The bootstrap: what is read, what is refused and in which words (gRFCs A27, A47, A65, A71, A88)."""

from __future__ import annotations

import json

import pytest

from meshsdk.bootstrap import (
    Bootstrap,
    InsecureCredentials,
    Node,
    RegistryConfig,
    ServerConfig,
    TlsCredentials,
    Transport,
    load_bootstrap,
)
from meshsdk.errors import BootstrapError
from meshsdk.model.migration import Migration
from meshsdk.model.resources import Locality

INSECURE = [{"type": "insecure"}]
SERVER = {"server_uri": "127.0.0.1:18000", "channel_creds": INSECURE}


def load(**fields) -> Bootstrap:
    """Reads a bootstrap with one server and the given top-level fields."""
    return load_bootstrap({"xds_servers": [SERVER], **fields}, {})


def refused(**fields) -> str:
    """The words with which a bootstrap is refused."""
    with pytest.raises(BootstrapError) as caught:
        load(**fields)
    return str(caught.value)


def test_smallest_bootstrap():
    """One insecure server is enough; everything else has the defaults of the specs."""
    assert load() == Bootstrap(servers=(ServerConfig("127.0.0.1:18000", InsecureCredentials()),))
    assert load().mesh.transport is Transport.AUTO


def test_file_variable_wins_over_text_variable(tmp_path):
    """GRPC_XDS_BOOTSTRAP names a file and goes before GRPC_XDS_BOOTSTRAP_CONFIG (A27)."""
    path = tmp_path / "bootstrap.json"
    path.write_text(json.dumps({"xds_servers": [{**SERVER, "server_uri": "file:1"}]}))
    text = json.dumps({"xds_servers": [{**SERVER, "server_uri": "text:1"}]})
    environ = {"GRPC_XDS_BOOTSTRAP": str(path), "GRPC_XDS_BOOTSTRAP_CONFIG": text}
    assert load_bootstrap(None, environ).servers[0].uri == "file:1"
    del environ["GRPC_XDS_BOOTSTRAP"]
    assert load_bootstrap(None, environ).servers[0].uri == "text:1"
    assert load_bootstrap(path, environ).servers[0].uri == "file:1"


def test_no_bootstrap_at_all():
    """Without any source the error says what to set."""
    with pytest.raises(BootstrapError, match=r"GRPC_XDS_BOOTSTRAP.*Mesh"):
        load_bootstrap(None, {})


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{", "not JSON"),
        (b"[]", "must be an object, not a list"),
        (b"\xff", "not UTF-8"),
        (b"[" * 100_000, "not JSON"),
        (b" " * (4 * 1024 * 1024 + 1), "is not a bootstrap file"),
    ],
)
def test_files_that_are_no_bootstrap(tmp_path, content, words):
    """Whatever is in the file, the error names the file and what is wrong."""
    path = tmp_path / "b.json"
    path.write_bytes(content)
    with pytest.raises(BootstrapError, match=words) as caught:
        load_bootstrap(str(path), {})
    assert str(path) in str(caught.value)


def test_missing_file(tmp_path):
    """A path that leads nowhere is named, with the variable that named it."""
    with pytest.raises(BootstrapError, match=r"none\.json \(from GRPC_XDS_BOOTSTRAP\): cannot read.*No such file"):
        load_bootstrap(None, {"GRPC_XDS_BOOTSTRAP": str(tmp_path / "none.json")})


def test_servers_in_order_with_features():
    """All servers count, in order (A71); known features are kept, unknown ones are listed."""
    second = {**SERVER, "server_uri": "two:2", "server_features": ["fail_on_data_errors", "ignore_resource_deletion"]}
    bootstrap = load(xds_servers=[SERVER, second])
    assert [server.uri for server in bootstrap.servers] == ["127.0.0.1:18000", "two:2"]
    assert bootstrap.servers[1].fail_on_data_errors
    assert not bootstrap.servers[0].fail_on_data_errors
    assert bootstrap.ignored == ("xds_servers[1].server_features['ignore_resource_deletion']",)


def test_first_supported_credentials_are_taken():
    """Types we do not know are passed over, and listed (A27)."""
    creds = [{"type": "google_default"}, {"type": "tls", "config": {"ca_certificate_file": "/ca"}}, *INSECURE]
    bootstrap = load(xds_servers=[{**SERVER, "channel_creds": creds}])
    assert bootstrap.servers[0].credentials == TlsCredentials(ca_file="/ca")
    assert bootstrap.ignored == ("xds_servers[0].channel_creds[0] (type 'google_default')",)


def test_mutual_tls():
    """tls with certificate and key (A65); a refresh interval has no effect, as files are read at each connection."""
    config = {"certificate_file": "/cert", "private_key_file": "/key", "refresh_interval": "5s"}
    bootstrap = load(xds_servers=[{**SERVER, "channel_creds": [{"type": "tls", "config": config}]}])
    assert bootstrap.servers[0].credentials == TlsCredentials(None, "/cert", "/key")
    assert bootstrap.ignored == ("xds_servers[0].channel_creds[0].config.refresh_interval",)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"xds_servers": []}, "bootstrap: xds_servers: is missing"),
        ({"xds_servers": {}}, "bootstrap: xds_servers: must be a list, not an object"),
        ({"xds_servers": ["a:1"]}, "xds_servers[0]: must be an object, not a string"),
        ({"xds_servers": [{"channel_creds": INSECURE}]}, "xds_servers[0].server_uri: is missing"),
        ({"xds_servers": [{"server_uri": 5}]}, "xds_servers[0].server_uri: must be a string, not a number"),
        ({"xds_servers": [{"server_uri": "a:1"}]}, "xds_servers[0].channel_creds: is missing or empty"),
        (
            {"xds_servers": [{**SERVER, "channel_creds": [{"type": "alts"}]}]},
            "xds_servers[0].channel_creds: none of ['alts'] is supported",
        ),
        (
            {"xds_servers": [{**SERVER, "channel_creds": [{"type": "tls", "config": {"certificate_file": "/c"}}]}]},
            "xds_servers[0].channel_creds[0].config: certificate_file and private_key_file",
        ),
        ({"node": []}, "bootstrap: node: must be an object, not a list"),
        ({"node": {"id": None, "cluster": True}}, "node.cluster: must be a string, not a boolean"),
        ({"node": {"locality": {"zone": 1}}}, "node.locality.zone: must be a string"),
        ({"node": {"metadata": {"a": object()}}}, "node.metadata: must hold JSON values only"),
        ({"authorities": {"x": {"client_listener_resource_name_template": "xdstp://y/%s"}}}, "must start with"),
        ({"meshsdk": {"transprot": "delta"}}, "meshsdk.transprot: is not known; allowed here: transport, registries"),
        ({"meshsdk": {"transport": "rest"}}, "meshsdk.transport: is 'rest'; write 'auto', 'delta' or 'sotw'"),
        ({"meshsdk": {"registries": {"r": {"url": "no-scheme"}}}}, "meshsdk.registries['r'].url: must be"),
        (
            {"meshsdk": {"registries": {"r": {"url": "redis://me:secret@h"}}}},
            "meshsdk.registries['r'].url: 'redis://***@h' is not a registry; its scheme is none of grpc://",
        ),
        ({"meshsdk": {"registries": {"r": {"url": "etcd://[h"}}}}, "meshsdk.registries['r'].url: 'etcd://[h' is not a"),
        ({"meshsdk": {"registries": {"r": {"uri": "etcd://h"}}}}, "meshsdk.registries['r'].uri: is not known"),
        ({"xds_servers": [], "meshsdk": {"registries": {}}}, "bootstrap: xds_servers: is missing"),
        (
            {"meshsdk": {"registries": {"r": {"url": "etcd://h", "protection_seconds": -1}}}},
            "meshsdk.registries['r'].protection_seconds: must be a number of zero or more",
        ),
        (
            {"meshsdk": {"registries": {"r": {"url": "etcd://h", "protection_seconds": True}}}},
            "protection_seconds: must be a number",
        ),
        ({"meshsdk": {"migration": {"mode": "X"}}}, "meshsdk.migration.mode: is not known"),
        ({"meshsdk": {"migration": {"default": "LATER"}}}, "meshsdk.migration.default: is 'LATER'; write FORCE_INT"),
        ({"meshsdk": {"migration": {"services": {"a.B": None}}}}, "meshsdk.migration.services.a.B: is None; write"),
        ({"meshsdk": {"node_overrides": {"user_agent_name": "x"}}}, "meshsdk.node_overrides.user_agent_name: is not"),
        ({"meshsdk": {"cache_dir": 1}}, "meshsdk.cache_dir: must be a string, not a number"),
    ],
)
def test_refusals_say_where_and_what(fields, words):
    """Every refusal names the place in the file and what is wrong with it."""
    assert words in refused(**fields)


def test_authorities():
    """An authority has its own servers or the top-level ones, and a template by default (A47)."""
    other = {**SERVER, "server_uri": "other:1"}
    bootstrap = load(authorities={"a": {"xds_servers": [other]}, "": {}})
    assert bootstrap.authorities["a"].servers[0].uri == "other:1"
    assert bootstrap.authorities[""].servers == bootstrap.servers
    assert bootstrap.authorities["a"].listener_template == "xdstp://a/envoy.config.listener.v3.Listener/%s"


def test_node_in_both_spellings():
    """Proto JSON spells sub_zone in two ways; what the client sets itself is listed as ignored."""
    node = {"id": "n", "cluster": "c", "locality": {"zone": "z", "subZone": "s"}, "metadata": {"k": [1]}, "buildX": 1}
    bootstrap = load(node=node)
    assert bootstrap.node == Node("n", "c", Locality("", "z", "s"), {"k": [1]})
    assert bootstrap.ignored == ("node.buildX",)


def test_node_overrides_replace_and_metadata_merges():
    """node_overrides replace fields, and metadata key by key."""
    bootstrap = load(
        node={"id": "n", "cluster": "c", "locality": {"zone": "z"}, "metadata": {"a": 1, "b": 1}},
        meshsdk={"node_overrides": {"cluster": "web", "locality": {"region": "r"}, "metadata": {"b": 2}}},
    )
    assert bootstrap.node == Node("n", "web", Locality("r"), {"a": 1, "b": 2})


def test_mesh_section():
    """Our own section: transport, registries and the directory of the copy on disk."""
    section = {"transport": "sotw", "registries": {"default": {"url": "etcd://h:1"}}, "cache_dir": "/c"}
    mesh = load(meshsdk=section).mesh
    assert mesh.transport is Transport.SOTW
    assert mesh.registries == {"default": RegistryConfig("etcd://h:1")}
    assert mesh.cache_dir == "/c"


def test_registries_alone():
    """A bootstrap with registries needs no control plane."""
    bootstrap = load(xds_servers=[], meshsdk={"registries": {"default": {"url": "etcd://h", "protection_seconds": 5}}})
    assert bootstrap.servers == ()
    assert bootstrap.mesh.registries["default"] == RegistryConfig("etcd://h", 5.0)


def test_migration_settings():
    """A default for all services and modes for some; application-first where nothing is said."""
    section = {"default": "FORCE_INTERFACE", "services": {"shop.Orders": "FORCE_APPLICATION"}}
    migration = load(meshsdk={"migration": section}).mesh.migration
    assert migration.default is Migration.FORCE_INTERFACE
    assert migration.services == {"shop.Orders": Migration.FORCE_APPLICATION}
    assert load().mesh.migration.default is Migration.APPLICATION_FIRST


def test_unknown_fields_of_grpc_are_listed():
    """A27 wants unknown fields ignored; here they are listed as well."""
    assert load(certificate_providers={}, node={"x": 1}).ignored == ("certificate_providers", "node.x")


def test_later_changes_of_the_dict_do_not_matter():
    """A bootstrap is frozen: a caller may change the dict it came from."""
    node = {"metadata": {"a": {"b": 1}}}
    bootstrap = load(node=node)
    node["metadata"]["a"]["b"] = 2
    assert bootstrap.node.metadata == {"a": {"b": 1}}
