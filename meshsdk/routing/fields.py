"""Reads fields of a decoded request by their path: `("user", "tier")`, `("labels", "env")`, `("items", "sku")`.

Called by `router` for conditions on request fields. A path is checked against the message type's descriptor once and
becomes a chain of closures; the message is never serialised or parsed again. Protobuf objects are only looked at
through the attributes named in the Protocols here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from meshsdk.routing.field_text import EnumType, Text, text_of

Read = Callable[[Any], tuple[str, ...]]
"""From a message to the texts of its values at the path; none: the field is not set."""

_STRING, _GROUP, _MESSAGE = 9, 10, 11  # google.protobuf.descriptor.FieldDescriptor.TYPE_*
_MAX_TYPES = 64  # message types remembered by one source; a method has one, save where types are made at run time
_WRAPPERS = frozenset(
    f"google.protobuf.{name}Value"
    for name in ("Bool", "Bytes", "Double", "Float", "Int32", "Int64", "String", "UInt32", "UInt64")
)


class Options(Protocol):
    """What is used of google.protobuf.MessageOptions."""

    map_entry: bool


class Field(Protocol):
    """What is used of google.protobuf.descriptor.FieldDescriptor."""

    name: str
    type: int
    is_repeated: bool
    has_presence: bool
    message_type: Message | None
    enum_type: EnumType | None


class Message(Protocol):
    """What is used of google.protobuf.descriptor.Descriptor."""

    full_name: str
    fields_by_name: Mapping[str, Field]

    def GetOptions(self) -> Options:  # noqa: N802  protobuf's name
        """Returns the message's options; `map_entry` marks the type of a map's entries."""


class UnknownField(Exception):
    """A path that a message type does not have; the text says where it breaks."""


class FieldSource:
    """One path, as `presence` (is it set?) or by value, for the conditions of one plan that ask for it.

    `_readers` and `problems` only grow, from any thread: a race binds a type twice, to equal readers, and at worst
    lists its problem twice.
    """

    __slots__ = ("_path", "_presence", "_problems", "_readers", "_routes")

    def __init__(self, path: tuple[str, ...], *, presence: bool, routes: tuple[str, ...], problems: list[str]) -> None:
        self._path = path
        self._presence = presence
        self._routes = routes
        self._problems = problems
        self._readers: dict[type, Read | None] = {}

    def texts(self, request: object) -> tuple[str, ...] | None:
        """Returns the values at the path; None if the type of `request` cannot have it (listed once in problems)."""
        kind = type(request)
        try:
            read = self._readers[kind]
        except KeyError:
            read = self._bind(request)
        return None if read is None else read(request)

    def _bind(self, request: object) -> Read | None:
        if len(self._readers) >= _MAX_TYPES:
            self._readers.clear()
        kind = type(request)
        descriptor: Message | None = getattr(request, "DESCRIPTOR", None)
        read: Read | None = None
        if descriptor is None:
            self._report(f"the request is {kind.__name__}, not a protobuf message")
        else:
            try:
                read = bind(self._path, descriptor, presence=self._presence)
            except UnknownField as error:
                self._report(str(error))
        self._readers[kind] = read
        return read

    def _report(self, problem: str) -> None:
        names = ", ".join(map(repr, self._routes))
        self._problems.append(f"route {names} never matches: request field {'.'.join(self._path)}: {problem}")


def bind(path: tuple[str, ...], descriptor: Message, *, presence: bool) -> Read:
    """Returns the reader of `path` in messages of one type. Raises UnknownField if the type does not have it.

    Repeated fields on the way or at the end give all their values; a map with string keys takes the key as the next
    name (the rest of the path, dots and all, where its values are no messages). With `presence` the texts are empty
    strings, one if the field is set: by `HasField` where the field has presence, else if it is not the default (what
    is on the wire, and what Envoy's field extraction sees).
    """
    if not path:
        raise UnknownField("the path is empty")
    field = descriptor.fields_by_name.get(path[0])
    if field is None:
        known = ", ".join(sorted(descriptor.fields_by_name)) or "none"
        raise UnknownField(f"{descriptor.full_name} has no field {path[0]} (it has: {known})")
    rest = path[1:]
    inner = field.message_type if field.type in (_MESSAGE, _GROUP) else None
    if inner is not None and inner.GetOptions().map_entry:
        return _map(field, inner, rest, presence=presence)
    if not rest and (presence or inner is None):
        return _presence(field) if presence else _values(field)
    if inner is None:
        raise UnknownField(f"{descriptor.full_name}.{field.name} is no message, and the path goes on")
    return _nested(field, _within(inner, rest, presence=presence))


def _within(inner: Message, rest: tuple[str, ...], *, presence: bool) -> Read:
    """The reader for what follows a field of message type."""
    if rest:
        return bind(rest, inner, presence=presence)
    if presence:
        return lambda _: ("",)
    if inner.full_name in _WRAPPERS:  # proto3 JSON writes a wrapper as the value in it
        return _values(inner.fields_by_name["value"])
    raise UnknownField(f"{inner.full_name} is a message: only its presence, or a field of it, can be tested")


def _values(field: Field) -> Read:
    name, text = field.name, text_of(field.type, field.enum_type)
    if field.is_repeated:
        return lambda message: tuple(map(text, getattr(message, name)))
    if field.has_presence:
        return lambda message: (text(getattr(message, name)),) if message.HasField(name) else ()
    return lambda message: (text(getattr(message, name)),)


def _presence(field: Field) -> Read:
    name = field.name
    if field.has_presence:
        return lambda message: ("",) if message.HasField(name) else ()
    return lambda message: ("",) if getattr(message, name) else ()


def _nested(field: Field, read: Read) -> Read:
    name = field.name
    if field.is_repeated:
        return lambda message: tuple(text for item in getattr(message, name) for text in read(item))
    return lambda message: read(getattr(message, name)) if message.HasField(name) else ()


def _map(field: Field, entry: Message, rest: tuple[str, ...], *, presence: bool) -> Read:
    if not rest:
        if presence:
            return _presence(field)
        raise UnknownField(f"{field.name} is a map: name a key of it")
    key_field, value_field = entry.fields_by_name["key"], entry.fields_by_name["value"]
    if key_field.type != _STRING:
        raise UnknownField(f"{field.name} is a map whose keys are no strings")
    inner = value_field.message_type if value_field.type == _MESSAGE else None
    if inner is None:
        text: Text = text_of(value_field.type, value_field.enum_type)
        return _entry(field.name, ".".join(rest), (lambda _: ("",)) if presence else lambda value: (text(value),))
    return _entry(field.name, rest[0], _within(inner, rest[1:], presence=presence))


def _entry(name: str, key: str, read: Read) -> Read:
    def read_entry(message: Any) -> tuple[str, ...]:
        entries = getattr(message, name)
        return read(entries[key]) if key in entries else ()  # asking first: a map of messages makes what it lacks

    return read_entry
