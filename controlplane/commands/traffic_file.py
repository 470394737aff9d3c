"""Recorded calls, one JSON object a line: what `meshctl diff-routes` asks two configurations about.

    {"target": "xds:///orders", "method": "/shop.Orders/Get", "metadata": {"tier": "gold"},
     "fields": {"user.tier": "gold"}, "app": "web", "labels": {"zone": "a"}, "count": 3}

`target` and `method` are needed; the lines of the SDK's access log have both, and what is not known here is left alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from meshsdk.errors import ConfigurationError

_MAX_LINE = 64 * 1024  # bytes
_MAX_ITEMS = 256  # metadata, fields or labels of one call


@dataclass(frozen=True, slots=True)
class RecordedCall:
    """`count` such calls of the application `app` to `host`. `fields` None: no request was recorded.

    `host` is "" for a target that is not of this control plane: an authority of its own, `mesh:///`, `dns:///` ...
    """

    host: str
    method: str
    metadata: tuple[tuple[str, str], ...] = ()
    fields: tuple[tuple[str, tuple[str, ...]], ...] | None = None
    app: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    count: int = 1


def read(path: Path) -> Iterator[RecordedCall]:
    """Yields the calls of a file. Raises ConfigurationError with `file:line: what` at the first that is none."""
    try:
        with path.open("rb") as lines:
            number = 0
            while line := lines.readline(_MAX_LINE + 1):
                number += 1
                if len(line) > _MAX_LINE:
                    raise ConfigurationError(f"{path}:{number}: longer than {_MAX_LINE} bytes")
                if line.strip():
                    yield _call(line, f"{path}:{number}")
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from None


def _call(line: bytes, where: str) -> RecordedCall:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{where}: not JSON: {error}") from None
    if not isinstance(found, dict):
        raise ConfigurationError(f"{where}: not an object")
    target, method = (_text(found, name, where) for name in ("target", "method"))
    host = _host(target)
    if not (target and method.startswith("/") and method.count("/") == 2):  # noqa: PLR2004 - /package.Service/Method
        raise ConfigurationError(f"{where}: needs a target (xds:///NAME) and a method (/package.Service/Method)")
    count = found.get("count", 1)
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise ConfigurationError(f"{where}: count: expected a number of 1 or more")
    return RecordedCall(
        host,
        method,
        tuple((name.lower(), value) for name, value in _texts(found, "metadata", where)),
        _fields(found, where),
        _text(found, "app", where),
        tuple(_texts(found, "labels", where)),
        count,
    )


def _host(target: str) -> str:
    """Returns the service of `xds:///NAME`, or of a bare name; "" for what others answer."""
    scheme, mark, rest = target.partition(":///")
    if not mark:
        return "" if "/" in target else target
    return rest if scheme == "xds" else ""


def _text(found: Mapping[str, object], name: str, where: str) -> str:
    value = found.get(name, "")
    if not isinstance(value, str):
        raise ConfigurationError(f"{where}: {name}: expected a text")
    return value


def _entries(found: Mapping[str, object], name: str, where: str) -> Mapping[str, object]:
    value = found.get(name, {})
    if not isinstance(value, dict) or len(value) > _MAX_ITEMS:
        raise ConfigurationError(f"{where}: {name}: expected an object of at most {_MAX_ITEMS} entries")
    return value


def _texts(found: Mapping[str, object], name: str, where: str) -> Iterator[tuple[str, str]]:
    for key, value in _entries(found, name, where).items():
        if not isinstance(value, str):
            raise ConfigurationError(f"{where}: {name}.{key}: expected a text")
        yield key, value


def _fields(found: Mapping[str, object], where: str) -> tuple[tuple[str, tuple[str, ...]], ...] | None:
    """Reads request fields: proto3 JSON values, a list for a repeated one."""
    if found.get("fields") is None:
        return None
    read_fields = []
    for path, value in _entries(found, "fields", where).items():
        values = value if isinstance(value, list) else [value]
        if not all(isinstance(one, str | int | float) for one in values):
            raise ConfigurationError(f"{where}: fields.{path}: expected a text, a number, a boolean, or a list of them")
        read_fields.append((path, tuple(one if isinstance(one, str) else json.dumps(one) for one in values)))
    return tuple(read_fields)
