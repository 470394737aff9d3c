"""Messages of Nacos between objects and bytes: an envelope with the message's type, and its JSON.

Called by `session`; the one user of protobuf here. What the messages mean is the caller's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from meshsdk.discovery.nacos import payload_pb2 as pb
from meshsdk.errors import RegistryError

JsonObject = dict[str, object]


@dataclass(frozen=True, slots=True)
class Message:
    """One message: `kind` such as "InstanceRequest", and its fields."""

    kind: str
    body: JsonObject

    def text(self, name: str) -> str:
        """Returns a field that is text, "" where it is not."""
        value = self.body.get(name)
        return value if isinstance(value, str) else ""

    def number(self, name: str) -> int:
        """Returns a field that is a whole number, 0 where it is not."""
        value = self.body.get(name)
        return value if isinstance(value, int) else 0


def encode(message: Message, headers: Mapping[str, str], address: str) -> bytes:
    """Returns the bytes of a message; `address` is the sender's, as Nacos shows it in its console."""
    body = json.dumps(message.body, separators=(",", ":"), ensure_ascii=False).encode()
    metadata = pb.Metadata(type=message.kind, headers=dict(headers), clientIp=address)
    return pb.Payload(metadata=metadata, body=pb.Body(value=body)).SerializeToString()


def decode(raw: bytes) -> Message:
    """Reads a message; RegistryError for what is none."""
    payload = pb.Payload.FromString(raw)
    try:
        body = json.loads(payload.body.value or b"{}")
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise RegistryError(f"the server sent a {payload.metadata.type[:80]!r} that is not a JSON object")
    return Message(payload.metadata.type, body)
