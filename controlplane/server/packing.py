"""Packs xDS resources: protobuf messages to `Packed` bytes that every client's response is made of.

Called by `controlplane.snapshot` on the thread that sets a resource, once per resource and change, and by whoever has
the serialised message at hand. Bodies are made deterministically, so equal content has an equal version in every
process.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf import any_pb2
from google.protobuf.message import DecodeError, Message

from controlplane.server import type_urls
from controlplane.server.framing import heading, length_delimited
from controlplane.server.globs import SCHEME, collection_of, glob_of, is_of_client, parameters_of
from controlplane.server.resource_map import Packed, delta_head, sotw_head
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
    _check_name(name)
    return pack_parts(type_url, name, (value,), refers=_refers(type_url, value), collection=collection_of(name))


def pack_parts(
    type_url: str,
    name: str,
    parts: Iterable[bytes],
    *,
    version: str = "",
    refers: tuple[str, ...] = (),
    collection: str = "",
    turned: Packed | None = None,
) -> Packed:
    """Packs a serialised message that comes in parts, which are joined once. The name is taken as it is.

    `version`: a hash of the content, where the caller has one that is cheaper than reading all of it.
    """
    listed = tuple(parts)
    size = sum(map(len, listed))
    body = b"".join((length_delimited(_ANY_TYPE_URL, type_url.encode()), heading(_ANY_VALUE, size), *listed))
    version = version or _hash(listed)
    digest = hashlib.blake2b(f"{name}\0{version}".encode(), digest_size=_DIGEST_BYTES).digest()
    return Packed(
        type_url=type_url,
        name=name,
        version=version,
        digest=int.from_bytes(digest, "big"),
        body=body,
        sotw_head=sotw_head(body),
        delta_head=delta_head(name, version, body),
        refers=refers,
        collection=collection,
        turned=turned,
    )


def _hash(parts: Iterable[bytes]) -> str:
    made = hashlib.blake2b(digest_size=_VERSION_BYTES)
    for part in parts:
        made.update(part)
    return made.hexdigest()


def _check_name(name: str) -> None:
    if name == "*" or len(name.encode()) > _LONGEST_NAME:
        raise ConfigurationError(f"{name[:60]!r} cannot be the name of a resource: '*', or over {_LONGEST_NAME} bytes")
    if glob_of(name) is not None:
        raise ConfigurationError(f"{name!r} names a collection, not a resource: set its members by their own names")
    said = [parameter for parameter in parameters_of(name) if is_of_client(parameter)]
    if collection_of(name) and said:
        raise ConfigurationError(
            f"{name!r} has the context parameter {said[0]}, by which clients describe themselves and choose nothing: "
            "set the resource for a view instead"
        )


def _own_name(resource: Message, type_url: str) -> str:
    found = getattr(resource, _NAME_FIELDS.get(type_url, "name"), "")
    return found if isinstance(found, str) else ""


def _refers(type_url: str, value: bytes) -> tuple[str, ...]:
    """Returns the EDS resource that a cluster takes its endpoints from, or the LEDS collections of an EDS resource."""
    if type_url == type_urls.CLUSTER:
        cluster = _parsed(cluster_pb2.Cluster, type_url, value)
        if cluster.type != cluster_pb2.Cluster.EDS:
            return ()
        return (cluster.eds_cluster_config.service_name or cluster.name,)
    if type_url == type_urls.ENDPOINT and SCHEME.encode() in value:  # reading a large one takes milliseconds
        assignment = _parsed(endpoint_pb2.ClusterLoadAssignment, type_url, value)
        named = (group.leds_cluster_locality_config.leds_collection_name for group in assignment.endpoints)
        return tuple(name for name in named if name)
    return ()


def _parsed(kind: type[Message], type_url: str, value: bytes) -> Any:
    try:
        return kind.FromString(value)
    except DecodeError as error:
        what = kind.DESCRIPTOR.name
        raise ConfigurationError(f"an Any of type {type_url} does not hold a {what}: {error}") from error
