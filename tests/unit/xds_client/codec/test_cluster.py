"""CDS: where endpoints come from and what else a Cluster says (gRFC A27, A29, A32, A37, A47, A50)."""

from __future__ import annotations

import pytest

from meshsdk.errors import InvalidResource
from meshsdk.model.policy import LbConfig
from meshsdk.model.resources import (
    AggregateSource,
    Cluster,
    DnsSource,
    EdsSource,
    Kind,
    StaticSource,
)
from meshsdk.xds_client.codec import decode
from tests.unit.xds_client.codec.messages import ADS, EXTENSIONS, Json, cluster, endpoint, locality

STRUCT = "type.googleapis.com/xds.type.v3.TypedStruct"
HTTP: Json = {"@type": f"{EXTENSIONS}upstreams.http.v3.HttpProtocolOptions"}
SOCKET = "load_assignment.endpoints[0].lb_endpoints[0].endpoint.address.socket_address"


def decoded(raw: bytes, name: str = "orders") -> Cluster:
    """Returns a resource that must be accepted."""
    found, resource = decode(Kind.CLUSTER, raw)
    assert isinstance(resource, Cluster)
    assert resource.name == found == name
    return resource


def refusal(raw: bytes) -> str:
    """Returns the text of the NACK after the resource's name."""
    with pytest.raises(InvalidResource) as caught:
        decode(Kind.CLUSTER, raw)
    prefix = f"Cluster {caught.value.name!r}: "
    assert str(caught.value).startswith(prefix)
    return str(caught.value).removeprefix(prefix)


def dns(host: str = "orders.local", port: int = 80, **fields: object) -> Json:
    """Returns the fields of a LOGICAL_DNS cluster."""
    place = {"lb_endpoints": [endpoint(host, port)]}
    return {"type": "LOGICAL_DNS", "eds_cluster_config": None, "load_assignment": {"endpoints": [place]}, **fields}


def aggregate(*names: str) -> Json:
    """Returns the fields of an aggregate cluster."""
    config = {"@type": f"{EXTENSIONS}clusters.aggregate.v3.ClusterConfig", "clusters": names}
    kind = {"name": "envoy.clusters.aggregate", "typed_config": config}
    return {"type": None, "eds_cluster_config": None, "cluster_type": kind}


def test_eds() -> None:
    """The plain cluster of a stock control plane: its endpoints under its own name, round robin, defaults of Envoy."""
    assert decoded(cluster()) == Cluster("orders", EdsSource("orders"), LbConfig())
    assert LbConfig().panic_threshold == 0.5


@pytest.mark.parametrize("source", [ADS, {"self": {}}])
def test_eds_service_name(source: Json) -> None:
    """The EDS resource may have a name of its own, and come from ads or self."""
    raw = cluster(eds_cluster_config={"eds_config": source, "service_name": "orders|v1"})
    assert decoded(raw).source == EdsSource("orders|v1")


def test_aggregate() -> None:
    """A37: an aggregate names its leaves in order of priority."""
    assert decoded(cluster(**aggregate("a", "b"))).source == AggregateSource(("a", "b"))


def test_logical_dns() -> None:
    """A37: the one endpoint's address is the name to resolve."""
    assert decoded(cluster(**dns())).source == DnsSource("orders.local", 80)


def test_static() -> None:
    """Endpoints may stand in the cluster; the assignment takes the cluster's name, and lists what it ignores."""
    place = locality(endpoint("10.0.0.1"), endpoint("10.0.0.2"), proximity=1)
    raw = cluster(type="STATIC", eds_cluster_config=None, load_assignment={"endpoints": [place]})
    found = decoded(raw)
    assert isinstance(found.source, StaticSource)
    assert found.source.endpoints.name == "orders"
    assert [len(one.endpoints) for one in found.source.endpoints.localities] == [2]
    assert found.ignored == ("load_assignment.endpoints.proximity",)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"eds_cluster_config": None}, "eds_cluster_config.eds_config: must be ads or self, is 'not set'"),
        (
            {"eds_cluster_config": {"eds_config": {"path": "/x"}}},
            "eds_cluster_config.eds_config: must be ads or self, is 'path'",
        ),
        (
            {"name": "xdstp://a/envoy.config.cluster.v3.Cluster/x"},
            "eds_cluster_config.service_name: is empty, which an xdstp cluster may not have (gRFC A47)",
        ),
        ({"type": "STRICT_DNS"}, "type: STRICT_DNS is not supported"),
        ({"type": "ORIGINAL_DST"}, "type: ORIGINAL_DST is not supported"),
        ({"type": 17}, "type: 17 is not supported"),
        ({"type": None, "cluster_type": {"name": "x"}}, "cluster_type: 'x' is not supported"),
        (aggregate(), "cluster_type.clusters: is empty"),
        (aggregate("a", ""), "cluster_type.clusters[1]: is empty"),
        (dns(load_assignment={}), "load_assignment.endpoints: a LOGICAL_DNS cluster needs exactly one locality, has 0"),
        (
            dns(load_assignment={"endpoints": [{}]}),
            "load_assignment.endpoints[0].lb_endpoints: a LOGICAL_DNS cluster needs exactly one endpoint, has 0",
        ),
        (
            dns(load_assignment={"endpoints": [{"lb_endpoints": [{}]}]}),
            f"{SOCKET}: is not set",
        ),
        (
            dns(""),
            f"{SOCKET}.address: is empty",
        ),
        (
            dns("a/b"),
            f"{SOCKET}.address: 'a/b' is not a host name",
        ),
        (
            dns(port=0),
            f"{SOCKET}.port_value: 0 is not in 1 to 65535",
        ),
        (
            {"type": "STATIC", "eds_cluster_config": None},
            "load_assignment: is not set, which a STATIC cluster needs",
        ),
        (
            {"type": "STATIC", "load_assignment": {"endpoints": [{}]}},
            "load_assignment.endpoints[0].locality: is not set",
        ),
        ({"lrs_server": {"ads": {}}}, "lrs_server: must be self (gRFC A27)"),
        (
            {"transport_socket_matches": [{"name": "x"}]},
            "transport_socket_matches: is not supported (gRFC A29)",
        ),
    ],
)
def test_refused(fields: Json, words: str) -> None:
    """A cluster whose endpoints cannot be had is refused in words that name the field."""
    assert refusal(cluster(**fields)) == words


def test_load_reports() -> None:
    """A27: a server that wants the counts of the cluster's calls says so, and it is honoured."""
    assert not decoded(cluster()).reports
    asked = decoded(cluster(lrs_server={"self": {}}))
    assert (asked.reports, asked.ignored) == (True, ())


def test_tls_is_refused() -> None:
    """A29: calls do not go out in plaintext where the control plane asks for TLS; asking for plaintext is fine."""
    tls = {"@type": f"{EXTENSIONS}transport_sockets.tls.v3.UpstreamTlsContext"}
    text = refusal(cluster(transport_socket={"name": "envoy.transport_sockets.tls", "typed_config": tls}))
    kind = "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"
    assert text == f"transport_socket: '{kind}' is not supported; connections here are in plaintext"
    plain = {"@type": f"{EXTENSIONS}transport_sockets.raw_buffer.v3.RawBuffer"}
    found = decoded(cluster(transport_socket={"name": "raw", "typed_config": plain}))
    assert found.ignored == ()


def test_http2_is_spoken_anyway() -> None:
    """What Envoy must be told to speak HTTP/2 is nothing that has no effect here; a setting of it is."""
    http2: Json = {"http2_protocol_options": {}}
    plain = {"http": {**HTTP, "explicit_http_config": http2}}
    assert decoded(cluster(typed_extension_protocol_options=plain)).ignored == ()
    http2["http2_protocol_options"]["max_concurrent_streams"] = 5
    limited = {"http": {**HTTP, "explicit_http_config": http2}}
    assert decoded(cluster(typed_extension_protocol_options=limited)).ignored == (
        "typed_extension_protocol_options.http.explicit_http_config.http2_protocol_options.max_concurrent_streams",
    )


def test_ignored_fields_are_listed() -> None:
    """Settings for Envoy's connections and foreign metadata are accepted and listed."""
    raw = cluster(
        connect_timeout="5s",
        health_checks=[{"timeout": "1s", "interval": "1s"}],
        common_lb_config={"update_merge_window": "1s", "zone_aware_lb_config": {"min_cluster_size": 6}},
        metadata={"filter_metadata": {"istio": {"x": 1}, "meshsdk": {"subset_size": 5, "colour": "blue"}}},
        http2_protocol_options={},
        typed_extension_protocol_options={"x": {"@type": STRUCT}, "http": {**HTTP, "auto_config": {}}},
    )
    assert decoded(raw).ignored == (
        "common_lb_config.update_merge_window",
        "common_lb_config.zone_aware_lb_config.min_cluster_size",
        "connect_timeout",
        "health_checks",
        "metadata.filter_metadata.istio",
        "metadata.filter_metadata.meshsdk.colour",
        "typed_extension_protocol_options.http.auto_config",
        "typed_extension_protocol_options.x",
    )
