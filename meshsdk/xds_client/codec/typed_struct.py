"""What an Any holds, also where it is wrapped in a TypedStruct (JSON in place of a serialised message).

Called by the decoders of filters and extensions. Specs: xds.type.v3.TypedStruct; Envoy reads one for a type that it
knows as that type's own message, and so does this.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from google.protobuf import json_format
from google.protobuf.any_pb2 import Any as PackedAny
from google.protobuf.struct_pb2 import Struct
from udpa.type.v1 import typed_struct_pb2 as udpa_struct_pb2
from xds.type.v3 import typed_struct_pb2 as xds_struct_pb2

from meshsdk.xds_client.codec.refusal import FieldError, cut
from meshsdk.xds_client.codec.values import parsed, type_name

_STRUCTS = {
    "udpa.type.v1.TypedStruct": udpa_struct_pb2.TypedStruct,
    "xds.type.v3.TypedStruct": xds_struct_pb2.TypedStruct,
}
_DEEPEST = 32


@dataclass(frozen=True, slots=True)
class Unpacked:
    """The message `name` of an Any: serialised, or as `fields` of a Struct."""

    name: str
    raw: bytes
    fields: Struct | None

    def message(self, message_type: Any, path: str) -> Any:
        """Returns it as a message of `message_type`; raises `FieldError`."""
        if self.fields is None:
            return parsed(message_type, self.raw, path)
        try:
            plain = json_format.MessageToDict(self.fields)
            return json_format.ParseDict(plain, message_type(), max_recursion_depth=_DEEPEST)
        except (json_format.Error, RecursionError) as error:
            name = message_type.DESCRIPTOR.full_name
            raise FieldError(path, f"is not the JSON form of {name}: {cut(str(error))}") from error


def unpacked(packed: PackedAny, path: str) -> Unpacked:
    """Returns what an Any holds; raises `FieldError` for a TypedStruct that is none."""
    name = type_name(packed)
    if name not in _STRUCTS:
        return Unpacked(name, packed.value, None)
    struct = parsed(_STRUCTS[name], packed.value, path)
    return Unpacked(str(struct.type_url).rpartition("/")[2], b"", struct.value)
