"""Finds the fields of a message that are set and have no effect here, so that nothing is dropped silently.

Each decoder states what it honours in a table beside its code; `unhonoured` walks what is set. The lists end in
`Listener.ignored` and its likes, for `meshsdk doctor` and CSDS. Never judges whether a field may be ignored.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

# Field name -> the table of its message, or None where the decoder answers for the field and all below it.
Honoured = Mapping[str, "Honoured | None"]


def unhonoured(message: Message, honoured: Honoured, path: str = "") -> Iterator[str]:
    """Yields dotted paths (repeated fields without index) of set fields that `honoured` does not name.

    Fields that this build's protobuf descriptors lack come as `#number`. May repeat a path.
    """
    prefix = f"{path}." if path else ""
    unknown = UnknownFieldSet(message)
    for index in range(len(unknown)):
        yield f"{prefix}#{unknown[index].field_number}"
    for field, value in message.ListFields():
        if field.name not in honoured:
            yield prefix + field.name
            continue
        below = honoured[field.name]
        if below is None:
            continue
        for child in (value,) if isinstance(value, Message) else value:
            yield from unhonoured(child, below, prefix + field.name)
