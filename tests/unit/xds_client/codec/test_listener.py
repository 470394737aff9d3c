"""LDS: what a Listener becomes, and why one is refused (gRFC A27, A31, A33, A39, A41, A55)."""

from __future__ import annotations

import pytest

from meshsdk.errors import InvalidResource
from meshsdk.model.filters import Fault, NamedFilter, StatefulSession
from meshsdk.model.resources import Kind, Listener
from meshsdk.xds_client.codec import decode
from tests.unit.xds_client.codec.messages import ADS, EXTENSIONS, ROUTER, Json, listener, manager

STRUCT = "type.googleapis.com/xds.type.v3.TypedStruct"
INSIDE = "api_listener.api_listener"


def of_type(name: str, kind: str, **config: object) -> Json:
    """Returns an HTTP filter."""
    return {"name": name, "typed_config": {"@type": f"{EXTENSIONS}filters.http.{kind}", **config}}


def wrapped(name: str, kind: str, **fields: object) -> Json:
    """Returns an HTTP filter whose configuration is a TypedStruct, as for a type this build does not have."""
    struct = {"@type": STRUCT, "type_url": f"type.googleapis.com/{kind}"}
    return {"name": name, "typed_config": struct, **fields}


def decoded(raw: bytes) -> Listener:
    """Returns a resource that must be accepted."""
    name, resource = decode(Kind.LISTENER, raw)
    assert isinstance(resource, Listener)
    assert resource.name == name == "orders"
    return resource


def refusal(raw: bytes) -> str:
    """Returns the text of the NACK after the resource's name."""
    with pytest.raises(InvalidResource) as caught:
        decode(Kind.LISTENER, raw)
    assert caught.value.name == "orders"
    return str(caught.value).removeprefix("Listener 'orders': ")


def test_rds() -> None:
    """The plain listener of a stock control plane names its routes."""
    assert decoded(listener()) == Listener("orders", route_config_name="orders")


def test_inlined_routes() -> None:
    """Routes may stand in the listener, with a name of their own or none; what they ignore is listed from the top."""
    routes = {"virtual_hosts": [{"name": "all", "domains": ["*"], "cors": {}}]}
    found = decoded(listener(manager(rds=None, route_config=routes)))
    assert found.route_config_name is None
    assert found.route_config is not None
    assert [host.name for host in found.route_config.virtual_hosts] == ["all"]
    assert found.ignored == (f"{INSIDE}.route_config.virtual_hosts.cors",)


@pytest.mark.parametrize(("duration", "expected"), [("2.5s", 2.5), ("0s", None)])
def test_max_stream_duration(duration: str, expected: float | None) -> None:
    """A31: the listener caps calls; zero means no cap."""
    found = decoded(listener(manager(common_http_protocol_options={"max_stream_duration": duration})))
    assert found.max_duration == expected
    assert found.ignored == ()


FAULT = of_type("fault", "fault.v3.HTTPFault")
STICKY = of_type("sticky", "stateful_session.v3.StatefulSession")


@pytest.mark.parametrize(
    ("filters", "expected", "ignored"),
    [
        ([FAULT, ROUTER], (NamedFilter("fault", Fault()),), ()),
        ([of_type("fields", "grpc_field_extraction.v3.GrpcFieldExtractionConfig"), ROUTER], (), ()),
        (
            [STICKY, FAULT, ROUTER],
            (NamedFilter("sticky", StatefulSession(enabled=False)), NamedFilter("fault", Fault())),
            (),
        ),
        ([{**FAULT, "disabled": True}, ROUTER], (NamedFilter("fault", Fault(), off=True),), ()),
        ([wrapped("lua", "x.Lua", is_optional=True), ROUTER], (), ("lua",)),
        ([wrapped("lua", "x.Lua", disabled=True), ROUTER], (), ("lua",)),
        ([ROUTER, wrapped("lua", "x.Lua", is_optional=True)], (), ("lua",)),
        ([wrapped("r", "envoy.extensions.filters.http.router.v3.Router")], (), ()),
    ],
)
def test_filters(filters: list[Json], expected: tuple[NamedFilter, ...], ignored: tuple[str, ...]) -> None:
    """Known filters are kept in order, also those that are off; optional unknown ones (A39) are listed."""
    found = decoded(listener(manager(http_filters=filters)))
    assert found.http_filters == expected
    assert found.ignored == tuple(f"{INSIDE}.http_filters.{name}" for name in ignored)


def test_a_listener_of_istio() -> None:
    """What Istio's proxyless listeners hold is accepted: a fault filter that is empty, and the router behind it."""
    stats = wrapped("istio.stats", "stats.PluginConfig", is_optional=True)
    found = decoded(listener(manager(http_filters=[{**FAULT, "name": "envoy.filters.http.fault"}, stats, ROUTER])))
    assert found.http_filters == (NamedFilter("envoy.filters.http.fault", Fault()),)
    assert found.ignored == (f"{INSIDE}.http_filters.istio.stats",)


@pytest.mark.parametrize(
    ("filters", "words"),
    [
        ([], "http_filters: is empty; the router filter is needed"),
        ([wrapped("lua", "x.Lua", is_optional=True)], "http_filters: is empty; the router filter is needed"),
        (
            [wrapped("lua", "x.Lua"), ROUTER],
            "http_filters[0].typed_config: no filter of type 'x.Lua' is known here, and it is not optional",
        ),
        ([{"name": "x"}, ROUTER], "http_filters[0].typed_config: no filter of type '' is known here, and it is not op"),
        ([{**ROUTER, "name": ""}], "http_filters[0].name: is empty"),
        ([ROUTER, ROUTER], "http_filters[1].name: 'router' is there twice"),
        ([ROUTER, {**ROUTER, "name": "other"}], "http_filters: the router filter is there twice or is not the last"),
        (
            [ROUTER, of_type("fault", "fault.v3.HTTPFault")],
            "http_filters: the last filter is 'fault', must be the router",
        ),
        (
            [of_type("limit", "ratelimit.v3.RateLimitPerRoute"), ROUTER],
            "http_filters[0].typed_config: no filter of type 'envoy.extensions.filters.http.ratelimit.v3.RateLimit",
        ),
    ],
)
def test_filters_refused(filters: list[Json], words: str) -> None:
    """A39: an unknown filter that is not optional, a wrong order and a double name are refused."""
    assert refusal(listener(manager(http_filters=filters))).startswith(f"{INSIDE}.{words}")


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (listener(api_listener=None), "api_listener: is not set; a client needs a listener with an api_listener"),
        (
            listener({"@type": STRUCT}),
            f"{INSIDE}: '{STRUCT}' is not supported; it must hold an HttpConnectionManager",
        ),
        (listener(manager(rds=None)), f"{INSIDE}.route_specifier: is not set"),
        (
            listener(manager(rds=None, scoped_routes={"name": "x"})),
            f"{INSIDE}.route_specifier: 'scoped_routes' is not supported",
        ),
        (
            listener(manager(rds={"config_source": ADS})),
            f"{INSIDE}.rds.route_config_name: is empty",
        ),
        (
            listener(manager(rds={"config_source": {"path": "/x"}, "route_config_name": "r"})),
            f"{INSIDE}.rds.config_source: must be ads or self, is 'path'",
        ),
        (
            listener(manager(rds={"route_config_name": "r"})),
            f"{INSIDE}.rds.config_source: must be ads or self, is 'not set'",
        ),
        (listener(manager(xff_num_trusted_hops=1)), f"{INSIDE}.xff_num_trusted_hops: must be zero (gRFC A41)"),
        (
            listener(manager(original_ip_detection_extensions=[{"name": "x"}])),
            f"{INSIDE}.original_ip_detection_extensions: must be empty (gRFC A41)",
        ),
        (
            listener(manager(common_http_protocol_options={"max_stream_duration": "-1s"})),
            f"{INSIDE}.common_http_protocol_options.max_stream_duration: -1 s 0 ns is not a duration of zero or more",
        ),
        (
            listener(manager(rds=None, route_config={"virtual_hosts": [{"name": "x"}]})),
            f"{INSIDE}.route_config.virtual_hosts[0].domains: is empty",
        ),
    ],
)
def test_refused(raw: bytes, words: str) -> None:
    """What a client cannot follow is refused, in words that name the field."""
    assert refusal(raw) == words


def test_ignored_fields_are_listed() -> None:
    """Envoy's settings that mean nothing to a gRPC client are accepted and listed."""
    raw = listener(
        manager(stat_prefix="x", stream_idle_timeout="5s", common_http_protocol_options={"idle_timeout": "5s"}),
        tcp_backlog_size=5,
    )
    assert decoded(raw).ignored == (
        f"{INSIDE}.common_http_protocol_options.idle_timeout",
        f"{INSIDE}.stream_idle_timeout",
        "tcp_backlog_size",
    )


def test_field_of_a_newer_protocol_is_listed() -> None:
    """A field that this build does not know is listed by its number."""
    assert decoded(listener() + b"\xf8\x7f\x01").ignored == ("#2047",)
