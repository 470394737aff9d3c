"""Packs xDS resources: protobuf messages to `Packed` bytes that every client's response is made of.

Called by `controlplane.snapshot` on the thread that sets a resource, once per resource and change. Bodies are made
deterministically, so equal content has an equal version in every process.
"""

from __future__ import annotations

import hashlib

from envoy.config.cluster.v3 import cluster_pb2
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf import any_pb2
from google.protobuf.message import DecodeError, Message

from controlplane.server import type_urls
from controlplane.server.resource_map import Packed
from controlplane.server.wire import length_delimited
from meshsdk.errors import ConfigurationError

_LONGEST_NAME = 2048  # bytes
_VERSION_BYTES = 8
_DIGEST_BYTES = 16

# Types whose state-of-the-world clients read the name from the message itself, and the field that holds it.
_NAME_FIELDS = {
    type_urls.LISTENER: "name",
    type_urls.ROUTE: "name",
    type_urls.CLUSTER: "name",
    type_urls.ENDPOINT: "cluster_name",
}

# protobuf field tags (number << 3 | 2, length-delimited)
_ANY_TYPE_URL, _ANY_VALUE = b"\x0a", b"\x12"
_RESPONSE_RESOURCES = b"\x12"  # field 2 of DiscoveryResponse and of DeltaDiscoveryResponse
_RESOURCE_VERSION, _RESOURCE_RESOURCE, _RESOURCE_NAME = b"\x0a", b"\x12", b"\x1a"


def pack(resource: Message | Packed, name: str | None = None) -> Packed:
    """Packs one resource; what is packed already is returned as it is.

    `resource`: a message of an xDS type, an `Any` of one, or an `envoy.service.discovery.v3.Resource` that names one.
    `name`: needed where the message does not hold its name (an `Any`, an `LbEndpoint`, ...).

    Raises:
        ConfigurationError: no name, a name that no client could ask for, or one that contradicts the message.
    """
    if isinstance(resource, Packed):
        return resource
    if isinstance(resource, discovery_pb2.Resource):
        return pack(resource.resource, name or resource.name)
    if isinstance(resource, any_pb2.Any):
        type_url, value = resource.type_url, resource.value
    else:
        type_url = type_urls.PREFIX + resource.DESCRIPTOR.full_name
        value = resource.SerializeToString(deterministic=True)
        own = _own_name(resource, type_url)
        if name is not None and own != name and type_url in _NAME_FIELDS:
            raise ConfigurationError(f"{type_url} set as {name!r} calls itself {own!r}: clients would not find it")
        name = name or own
    if not type_url:
        raise ConfigurationError(f"resource {name!r} is an Any without a type_url")
    if not name:
        raise ConfigurationError(f"a resource of type {type_url} has no name: set it by a mapping {{name: resource}}")
    if name == "*" or len(name.encode()) > _LONGEST_NAME:
        raise ConfigurationError(f"{name[:60]!r} cannot be the name of a resource: '*', or over {_LONGEST_NAME} bytes")
    return _packed(type_url, name, value)


def _own_name(resource: Message, type_url: str) -> str:
    found = getattr(resource, _NAME_FIELDS.get(type_url, "name"), "")
    return found if isinstance(found, str) else ""


def _packed(type_url: str, name: str, value: bytes) -> Packed:
    version = hashlib.blake2b(value, digest_size=_VERSION_BYTES).hexdigest()
    digest = hashlib.blake2b(f"{name}\0{version}".encode(), digest_size=_DIGEST_BYTES).digest()
    body = length_delimited(_ANY_TYPE_URL, type_url.encode()) + length_delimited(_ANY_VALUE, value)
    wrapper = length_delimited(_RESOURCE_VERSION, version.encode()) + length_delimited(_RESOURCE_NAME, name.encode())
    wrapper += length_delimited(_RESOURCE_RESOURCE, body, head_only=True)
    delta_head = length_delimited(_RESPONSE_RESOURCES, wrapper, extra=len(body))
    return Packed(
        type_url=type_url,
        name=name,
        version=version,
        digest=int.from_bytes(digest, "big"),
        body=body,
        sotw_head=length_delimited(_RESPONSE_RESOURCES, body, head_only=True),
        delta_head=delta_head,
        refers=_refers(type_url, value),
    )


def _refers(type_url: str, value: bytes) -> tuple[str, ...]:
    """Returns the EDS resource that a cluster takes its endpoints from."""
    if type_url != type_urls.CLUSTER:
        return ()
    try:
        cluster = cluster_pb2.Cluster.FromString(value)
    except DecodeError as error:
        raise ConfigurationError(f"an Any of type {type_url} does not hold a Cluster: {error}") from error
    if cluster.type != cluster_pb2.Cluster.EDS:
        return ()
    return (cluster.eds_cluster_config.service_name or cluster.name,)
