"""The codec of the stream's own messages. Called by `server`; decides nothing."""

from __future__ import annotations

from envoy.service.discovery.v3 import discovery_pb2

from meshsdk.shim.xds.contents import Request, Response

_LONGEST = 1_000  # characters of a refusal that are kept


def decode_request(data: bytes) -> Request:
    """Reads a DeltaDiscoveryRequest; raises `google.protobuf.message.DecodeError`."""
    message = discovery_pb2.DeltaDiscoveryRequest.FromString(data)
    return Request(
        message.type_url,
        tuple(message.resource_names_subscribe),
        tuple(message.resource_names_unsubscribe),
        tuple(message.initial_resource_versions),
        message.response_nonce,
        (message.error_detail.message or "refused without a word")[:_LONGEST] if message.error_detail.code else "",
    )


def encode_response(response: Response) -> bytes:
    """Writes a DeltaDiscoveryResponse."""
    message = discovery_pb2.DeltaDiscoveryResponse(
        type_url=response.type_url, nonce=response.nonce, removed_resources=response.removed
    )
    for given in response.given:
        resource = message.resources.add(name=given.name, version=response.nonce)
        resource.resource.type_url = response.type_url
        resource.resource.value = given.value
    data: bytes = message.SerializeToString()
    return data
