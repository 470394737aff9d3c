"""Header mutations -> `HeaderEdit`. Called by `inheritance` and `filters.mutation`; edits nothing itself.

Specs: envoy.config.core.v3.HeaderValueOption, envoy.config.common.mutation_rules.v3. Refused as Envoy refuses it: edits
of `:`-headers and of `host`, names that are none. Listed as without effect: headers that belong to gRPC's transport,
which no metadata can set (`grpc-*`, `content-type`, `te`, `user-agent`), binary ones (their text on the wire is not
their value), and values with command operators (`%REQ(x)%`): there is nothing here that could fill those in, and what
they say is not to be sent as it stands.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from meshsdk.model.filters import HeaderEdit
from meshsdk.xds_client.codec.refusal import FieldError, shown

_NAME = re.compile(r"[0-9a-z_.-]+")
_VALUE = re.compile(r"[ -~]*")  # what gRPC takes as the value of ASCII metadata
_TRANSPORT = frozenset({"content-type", "te", "user-agent", "connection", "transfer-encoding", "keep-alive", "upgrade"})
_MOST = 1000  # edits of one list, as in Envoy


def edits(added: Any, removed: Iterable[str], path: str, noted: set[str], listed: str) -> tuple[HeaderEdit, ...]:
    """Returns `<path>_to_remove`, then `<path>_to_add`, in the order in which Envoy runs one level's edits.

    That is: removals, what overwrites, what adds. `listed` is as `path`, for what has no effect.
    """
    found = []
    for i, name in enumerate(removed):
        where = f"{path}_to_remove[{i}]"
        if _ours(name, where, noted, f"{listed}_to_remove"):
            found.append(HeaderEdit(name.lower(), None))
    if len(added) > _MOST:
        raise FieldError(f"{path}_to_add", f"has {len(added)} entries, at most {_MOST}")
    options = [option(one, f"{path}_to_add[{i}]", noted, f"{listed}_to_add") for i, one in enumerate(added)]
    set_ = [one for one in options if one is not None]
    found.extend(one for one in set_ if not one.append)
    found.extend(one for one in set_ if one.append)
    return tuple(found)


def mutations(messages: Any, path: str, noted: set[str], listed: str) -> tuple[HeaderEdit, ...]:
    """Returns envoy.config.common.mutation_rules.v3.HeaderMutations, which run one by one."""
    found = []
    for i, one in enumerate(messages):
        where, kind = f"{path}[{i}]", one.WhichOneof("action")
        if kind == "append":
            edit = option(one.append, f"{where}.append", noted, f"{listed}.append")
            found.extend([edit] if edit else [])
        elif kind == "remove":
            if _ours(one.remove, f"{where}.remove", noted, f"{listed}.remove"):
                found.append(HeaderEdit(one.remove.lower(), None))
        elif kind is None:
            raise FieldError(where, "says neither remove nor append")
        else:
            noted.add(f"{listed}.{kind}")
    return tuple(found)


def option(message: Any, path: str, noted: set[str], listed: str) -> HeaderEdit | None:
    """Returns one HeaderValueOption; None for one without effect (added to `noted` unless it says nothing)."""
    name = message.header.key
    if not _ours(name, f"{path}.header.key", noted, listed):
        return None
    value = _value(message.header, f"{path}.header")
    if value is None:
        noted.add(f"{listed}.{name.lower()}")
        return None
    if not value and not message.keep_empty_value:
        return None  # as the field says
    action = message.append_action
    if message.HasField("append"):
        if action:
            raise FieldError(f"{path}.append", "stands beside append_action; one of the two is to be set")
        action = message.APPEND_IF_EXISTS_OR_ADD if message.append.value else message.OVERWRITE_IF_EXISTS_OR_ADD
    known = message.DESCRIPTOR.enum_types_by_name["HeaderAppendAction"].values_by_number
    if action not in known:
        raise FieldError(f"{path}.append_action", f"{action} is not known")
    return HeaderEdit(
        name.lower(),
        value,
        append=action in {message.APPEND_IF_EXISTS_OR_ADD, message.ADD_IF_ABSENT},
        only_if_absent=action == message.ADD_IF_ABSENT,
        only_if_present=action == message.OVERWRITE_IF_EXISTS,
    )


def _ours(name: str, path: str, noted: set[str], listed: str) -> bool:
    """Whether metadata can have the name; False: the edit has no effect and is listed."""
    lower = name.lower()
    if lower.startswith(":") or lower == "host":
        raise FieldError(path, f"{shown(name)}: :-headers and host may not be modified")
    if not _NAME.fullmatch(lower):
        raise FieldError(path, f"{shown(name)} is no name of a header" if name else "is empty")
    if lower.startswith("grpc-") or lower.endswith("-bin") or lower in _TRANSPORT:
        noted.add(f"{listed}.{lower}")
        return False
    return True


def _value(header: Any, path: str) -> str | None:
    """Returns the text to send; None: it has command operators."""
    text = header.value
    if header.raw_value:
        if text:
            raise FieldError(f"{path}.raw_value", "stands beside value; one of the two is to be set")
        text = header.raw_value.decode("latin-1")
    if not _VALUE.fullmatch(text):
        raise FieldError(f"{path}.value", f"{shown(text)} is not printable ASCII")
    if "%" in text.replace("%%", ""):
        return None
    return str(text.replace("%%", "%"))
