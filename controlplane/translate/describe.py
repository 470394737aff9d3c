"""Routes and endpoints in words, for `meshctl routes` and `meshctl endpoints`. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from envoy.config.core.v3 import health_check_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from google.protobuf import json_format
from google.protobuf.any_pb2 import Any

from controlplane.model.configuration import Configuration
from controlplane.model.traffic import CallMatch, HttpRoute
from controlplane.translate.describe_calls import policy_lines, route_lines
from controlplane.translate.describe_units import unit_rows, units_of
from controlplane.translate.names import ENDPOINT_METADATA, cluster_name
from meshsdk.model.matching import FieldMatch, HeaderMatch, PathKind, PresentMatch, RangeMatch, StringMatch

Row = dict[str, object]


def route_rows(host: str, configuration: Configuration) -> Iterator[Row]:
    """Yields one row for each alternative of each route of `host`, in the order in which they are tried.

    Faults, copies and header edits follow their route. For destinations in units the rows after those say which unit a
    call goes to; the last rows are what CallPolicies say.
    """
    service = configuration.virtual_services.get(host)
    hosts = [host]
    if service is None:
        yield _row(match="every call", to=host, units=units_of(hosts, configuration), origin="(default)")
    else:
        hosts = [destination.host for route in service.routes for destination in route.destinations]
        for route in service.routes:
            yield from _of_route(route, configuration)
    for calls, to, origin in unit_rows(hosts, configuration):
        yield _row(match=calls, to=to, origin=str(origin))
    for calls, words, origin in policy_lines(host, configuration):
        yield _row(route="(policy)", match=calls, to=words, origin=str(origin))


def _of_route(route: HttpRoute, configuration: Configuration) -> Iterator[Row]:
    for match in route.matches or (None,):
        yield _row(
            route=".".join(part for part in (route.name, match.name if match else "") if part),
            match=_condition(match) if match else "every call",
            to=_destinations(route),
            timeout=f"{route.timeout:g}s" if route.timeout else "",
            retries=f"{route.retries.attempts} on {','.join(route.retries.retry_on)}" if route.retries else "",
            units=units_of([destination.host for destination in route.destinations], configuration),
            origin=str(match.origin if match and match.origin.line else route.origin),
        )
    for what, words in route_lines(route):
        yield _row(route=route.name, match=what, to=words, origin=str(route.origin))


def _row(
    *, match: str, to: str, origin: str, route: str = "", timeout: str = "", retries: str = "", units: str = ""
) -> Row:
    return {
        "route": route,
        "match": match,
        "to": to,
        "units": units,
        "timeout": timeout,
        "retries": retries,
        "from": origin,
    }


def _destinations(route: HttpRoute) -> str:
    total = sum(destination.weight for destination in route.destinations)
    names = [(cluster_name(each.host, each.subset), each.weight) for each in route.destinations]
    if len(names) == 1:
        return names[0][0]
    return ", ".join(f"{name} {100 * weight / total:g}%" for name, weight in names)


def _condition(match: CallMatch) -> str:
    parts = []
    if match.path.kind is not PathKind.PREFIX or match.path.value != "/":
        words = {PathKind.EXACT: "path = ", PathKind.PREFIX: "path starts with ", PathKind.REGEX: "path ~ "}
        parts.append(words[match.path.kind] + match.path.value + (" (any case)" if match.path.ignore_case else ""))
    parts.extend(_test(f"header {header.name}", header) for header in match.headers)
    parts.extend(_test(f"field {'.'.join(param.path)}", param) for param in match.params)
    parts.extend(f"caller has {name}={value}" for name, value in match.source_labels.items())
    if match.impossible:
        parts.append("never (not a gRPC call)")
    return " and ".join(parts) or "every call"


def _test(subject: str, match: HeaderMatch | FieldMatch) -> str:
    negated = "not " if match.invert else ""
    test = match.test
    if isinstance(test, PresentMatch):
        return f"{subject} is {'' if test.present else 'not '}there"
    if isinstance(test, RangeMatch):
        return f"{negated}{subject} in [{test.start}, {test.end})"
    if isinstance(test, StringMatch):
        return f"{negated}{subject} {test.kind.value} {test.value}"
    raise TypeError(f"no words for {test!r}")


def endpoint_rows(body: bytes) -> Iterator[Row]:
    """Yields one row for each endpoint of an EDS resource. `body`: the serialised `google.protobuf.Any`."""
    message = endpoint_pb2.ClusterLoadAssignment()
    if not Any.FromString(body).Unpack(message):
        raise ValueError("not a ClusterLoadAssignment")
    for group in message.endpoints:
        place = "/".join(part for part in (group.locality.region, group.locality.zone, group.locality.sub_zone) if part)
        for endpoint in group.lb_endpoints:
            socket = endpoint.endpoint.address.socket_address
            host = f"[{socket.address}]" if ":" in socket.address else socket.address
            facts: Mapping[str, object] = {}
            if ENDPOINT_METADATA in endpoint.metadata.filter_metadata:
                facts = json_format.MessageToDict(endpoint.metadata.filter_metadata[ENDPOINT_METADATA])
            yield {
                "cluster": message.cluster_name,
                "address": f"{host}:{socket.port_value}",
                "health": health_check_pb2.HealthStatus.Name(endpoint.health_status),
                "weight": endpoint.load_balancing_weight.value,
                "locality": place,
                "labels": facts.get("labels", {}),
            }
