"""Test messages with every shape of field, built without generated code."""

from __future__ import annotations

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, wrappers_pb2

Field = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    "string": Field.TYPE_STRING,
    "int32": Field.TYPE_INT32,
    "int64": Field.TYPE_INT64,
    "bool": Field.TYPE_BOOL,
    "double": Field.TYPE_DOUBLE,
    "float": Field.TYPE_FLOAT,
    "bytes": Field.TYPE_BYTES,
}


def _add(message, number, kind, name):
    """Adds a field; `kind` is a scalar, "enum X" or a message, after an optional "repeated" or "optional"."""
    words = kind.split()
    field = message.field.add(name=name, number=number, label=Field.LABEL_OPTIONAL)
    if words[0] == "repeated":
        field.label = Field.LABEL_REPEATED
        words = words[1:]
    elif words[0] == "optional":
        field.proto3_optional = True
        field.oneof_index = len(message.oneof_decl)
        message.oneof_decl.add(name=f"_{name}")
        words = words[1:]
    if words[0] == "enum":
        field.type, field.type_name = Field.TYPE_ENUM, words[1]
    elif words[0] in _SCALARS:
        field.type = _SCALARS[words[0]]
    else:
        field.type, field.type_name = Field.TYPE_MESSAGE, words[0]


def _add_map(message, number, key, value, name):
    entry = message.nested_type.add(name="".join(part.capitalize() for part in name.split("_")) + "Entry")
    entry.options.map_entry = True
    _add(entry, 1, key, "key")
    _add(entry, 2, value, "value")
    _add(message, number, f"repeated .shop.Order.{entry.name}", name)


def _file():
    file = descriptor_pb2.FileDescriptorProto(name="shop.proto", package="shop", syntax="proto3")
    file.dependency.append("google/protobuf/wrappers.proto")
    state = file.enum_type.add(name="State")
    for number, name in enumerate(("UNKNOWN", "OPEN", "CLOSED")):
        state.value.add(name=name, number=number)
    user = file.message_type.add(name="User")
    for number, kind, name in ((1, "string", "tier"), (2, "optional string", "nick"), (3, "int32", "age")):
        _add(user, number, kind, name)
    item = file.message_type.add(name="Item")
    for number, kind, name in ((1, "string", "sku"), (2, "int64", "count"), (3, ".shop.User", "maker")):
        _add(item, number, kind, name)
    order = file.message_type.add(name="Order")
    order.oneof_decl.add(name="pay")
    fields = (
        (1, ".shop.User", "user"),
        (2, "enum .shop.State", "state"),
        (3, "repeated string", "tags"),
        (4, "repeated .shop.Item", "items"),
        (7, "string", "card"),
        (8, "int64", "cash"),
        (9, "optional bool", "express"),
        (10, "bool", "gift"),
        (11, "double", "price"),
        (12, "float", "mass"),
        (13, "bytes", "blob"),
        (14, "repeated enum .shop.State", "states"),
        (16, ".google.protobuf.StringValue", "note"),
    )
    for number, kind, name in fields:
        _add(order, number, kind, name)
        if name in ("card", "cash"):
            order.field[-1].oneof_index = 0
    _add_map(order, 5, "string", "string", "labels")
    _add_map(order, 6, "string", ".shop.Item", "by_sku")
    _add_map(order, 15, "int32", "string", "by_number")
    return file


_pool = descriptor_pool.DescriptorPool()
_pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
_pool.AddSerializedFile(_file().SerializeToString())

Order = message_factory.GetMessageClass(_pool.FindMessageTypeByName("shop.Order"))
User = message_factory.GetMessageClass(_pool.FindMessageTypeByName("shop.User"))
