"""ServiceEntry and WorkloadEntry from YAML. Called by `documents`; field by field only, references come later.

Fields follow `networking.istio.io/v1`; what this control plane adds is the meaning of a ServiceEntry that lists no
endpoints: the workloads and registered instances labelled `app: <host>`.
"""

from __future__ import annotations

from controlplane.config.fields import Field, Record
from controlplane.model.identity import ResourceId
from controlplane.model.names import HOST, ip
from controlplane.model.service import Resolution, ServiceEntry, ServicePort, Workload, WorkloadEntry
from meshsdk.model.resources import Locality

MAX_WEIGHT = 65_535  # of one endpoint: the sum over a priority must fit 32 bits (gRFC A27)
_MAX_PORT = 65_535
_PROTOCOLS = dict.fromkeys(("GRPC", "GRPC-WEB", "HTTP", "HTTP2", "HTTPS", "TCP", "TLS", "MONGO"))
_RESOLUTIONS = {
    "STATIC": Resolution.STATIC,
    "DNS": Resolution.DNS,
    "DNS_ROUND_ROBIN": Resolution.DNS,
    "NONE": Resolution.NONE,
}


def host(field: Field) -> str:
    """Reads the name of a service. Wildcards are refused: an xDS name stands for one service."""
    if "*" in field.text():
        field.refuse("a wildcard host is not supported; give every host its name")
    return field.matching(HOST, "a host name")


def _port(field: Field) -> ServicePort:
    record = field.record(("number", "name", "protocol", "targetPort"))
    protocol = record.read("protocol", lambda item: item.text().upper()) or "GRPC"
    if protocol not in _PROTOCOLS:
        record.require("protocol").refuse(f"expected one of {', '.join(_PROTOCOLS)}, got {protocol!r}")
    return ServicePort(
        number=record.require("number").integer(1, _MAX_PORT),
        name=record.require("name").text(63),
        protocol=protocol,
        target_port=record.read("targetPort", lambda item: item.integer(1, _MAX_PORT)),
    )


def _ports(field: Field) -> tuple[ServicePort, ...]:
    ports = tuple(_port(item) for item in field.items(1, 100))
    for index, item in enumerate(field.items()):
        if any(ports[index].name == other.name or ports[index].number == other.number for other in ports[:index]):
            item.refuse("a port with this name or number was given before")
        if index:
            item.warn(f"has no effect in this version: calls go to the first port, {ports[0].name}")
    return ports


def locality(field: Field) -> Locality:
    """Reads `region/zone/sub-zone`, of which the last two may be left out."""
    parts = field.text(256).split("/")
    if len(parts) > 3:  # noqa: PLR2004 - the three parts of a locality
        field.refuse("expected region/zone/sub-zone")
    return Locality(*parts)


def workload(field: Field) -> Workload:
    """Reads one workload, as ServiceEntry's `endpoints[]` and WorkloadEntry's `spec` hold it."""
    record = field.record(
        ("address", "ports", "labels", "locality", "weight"),
        ignored=("network", "serviceAccount"),
    )
    address = record.require("address")
    if address.text().startswith("unix:"):
        address.refuse("a Unix socket is not supported as the address of an endpoint")
    known = ip(address.text())
    ports = record.get("ports")
    return Workload(
        address=known if known is not None else address.matching(HOST, "an IP address or a host name"),
        ports={} if ports is None else {name: item.integer(1, _MAX_PORT) for name, item in ports.pairs(100)},
        labels=record.read("labels", Field.labels) or {},
        locality=record.read("locality", locality) or Locality(),
        weight=record.read("weight", lambda item: item.integer(1, MAX_WEIGHT)) or 1,
    )


def service_entry(spec: Field, identity: ResourceId) -> ServiceEntry:
    """Reads a ServiceEntry's spec. Raises FieldRefused."""
    record = spec.record(
        ("hosts", "ports", "endpoints", "location", "resolution", "workloadSelector"),
        ignored=("addresses", "exportTo", "subjectAltNames"),
    )
    resolution = record.get("resolution")
    kind = resolution.choice(_RESOLUTIONS) if resolution else Resolution.NONE
    endpoints = record.get("endpoints")
    workloads = tuple(workload(item) for item in endpoints.items(0, 100_000)) if endpoints else ()
    _check_resolution(record, kind, workloads)
    hosts = record.require("hosts")
    names = tuple(host(item) for item in hosts.items(1, 1_000))
    for index, item in enumerate(hosts.items()):
        if names[index] in names[:index]:
            item.refuse(f"{names[index]} is listed twice")
    selector = record.get("workloadSelector")
    return ServiceEntry(
        id=identity,
        hosts=names,
        ports=_ports(record.require("ports")),
        workloads=workloads,
        resolution=kind,
        selector=selector.record(("labels",)).require("labels").labels() if selector else None,
        external=record.read("location", lambda item: item.choice({"MESH_EXTERNAL": True, "MESH_INTERNAL": False}))
        or False,
        origin=spec.origin,
    )


def _check_resolution(record: Record, kind: Resolution, workloads: tuple[Workload, ...]) -> None:
    record.one_of(("endpoints", "workloadSelector"))
    if kind is Resolution.NONE and workloads:
        record.require("endpoints").refuse("endpoints need resolution: STATIC or DNS")
    if kind is Resolution.DNS:
        if record.get("workloadSelector"):
            record.require("workloadSelector").refuse(
                "resolution DNS finds endpoints by name; use STATIC with a selector"
            )
        if len(workloads) > 1:
            record.require("endpoints").refuse("resolution DNS takes at most one endpoint (gRFC A37, LOGICAL_DNS)")
    elif any(ip(item.address) is None for item in workloads):
        bad = next(index for index, item in enumerate(workloads) if ip(item.address) is None)
        record.require("endpoints").items()[bad].refuse(
            f"{workloads[bad].address} is not an IP address; a host name needs resolution: DNS"
        )


def workload_entry(spec: Field, identity: ResourceId) -> WorkloadEntry:
    """Reads a WorkloadEntry's spec. Raises FieldRefused."""
    value = workload(spec)
    if ip(value.address) is None:
        spec.refuse(f"{value.address} is not an IP address; the address of a WorkloadEntry must be one")
    return WorkloadEntry(identity, value, spec.origin)
