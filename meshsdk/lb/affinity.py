"""Session affinity by cookie: which endpoint a call asks for, and what tells the caller where it was (gRFC A55, A60).

The call plan asks `seat` for each call of a route with a `StatefulSession`, and `set_cookie` when its answer comes.
Pure; whether the endpoint is to be had is the balancer's matter.

The value of the cookie, in base64:
- `10.0.0.1:80`: A55, and Envoy until 1.26. gRPC and Envoy read it, so it is what is written where a route has a single
  cluster.
- `10.0.0.1:80;cluster:NAME`: A60. gRPC reads it; it is written where calls are split over several clusters, since
  without the cluster the next call of the session could go to another one.
- the message `{1: address, 2: expires}`: Envoy since 1.27. Read; `expires` is not, as it is of that Envoy's own clock
  (A55 leaves the cookie's age to whoever keeps it).
- `10.0.0.1:80,[::1]:80`: several addresses of one endpoint, as gRPC writes since A61: the first counts.
"""

from __future__ import annotations

import binascii
from base64 import b64decode, b64encode
from collections.abc import Iterable
from typing import Any, NamedTuple

from meshsdk.model.filters import StatefulSession

SET_COOKIE = "set-cookie"
_COOKIE = "cookie"
_CLUSTER = "cluster:"
_LONGEST = 4096  # characters of a cookie's value that are read
_ADDRESS_FIELD = 0x0A  # of Envoy's message: field 1, a string


class Seat(NamedTuple):
    """Where a session is: an endpoint's address as configuration has it, and its cluster ("": whichever has it)."""

    address: str
    cluster: str = ""


def applies(session: StatefulSession, method: str) -> bool:
    """Tells whether the session is for calls of `method` (`/package.Service/Method`): RFC 6265 section 5.1.4."""
    path = session.path
    if not path or path in ("/", method):
        return True
    return method.startswith(path if path.endswith("/") else f"{path}/")


def seat(session: StatefulSession, metadata: Iterable[tuple[str, Any]] | None) -> Seat | None:
    """Returns where a call with this metadata asks to go; None if it does not, or not in words that can be read.

    A session's cookie that comes twice names nothing (A55).
    """
    values = {
        value.strip().strip('"')
        for key, line in metadata or ()
        if key == _COOKIE and isinstance(line, str)
        for name, found, value in (part.partition("=") for part in line.split(";"))
        if found and name.strip() == session.name
    }
    return parse(values.pop()) if len(values) == 1 else None


def parse(value: str) -> Seat | None:
    """Reads the value of a cookie; see the module."""
    if len(value) > _LONGEST:
        return None
    try:
        data = b64decode(value, validate=True)
        text = (_address_of(data) or data).decode()
    except (binascii.Error, ValueError):
        return None
    addresses, _, cluster = text.partition(";")
    address = addresses.partition(",")[0]
    if ":" not in address or not address.isprintable():
        return None
    return Seat(address, cluster.strip('"').removeprefix(_CLUSTER))


def set_cookie(session: StatefulSession, asked: Seat | None, used: Seat) -> tuple[str, str] | None:
    """Returns the metadata that tells the caller where its call was; None if that is where it asked to go.

    `used.cluster`: "" where it need not be told.
    """
    if asked is not None and asked.address == used.address and asked.cluster in ("", used.cluster):
        return None
    text = f"{used.address};{_CLUSTER}{used.cluster}" if used.cluster else used.address
    parts = [f'{session.name}="{b64encode(text.encode()).decode()}"']
    if session.ttl:
        parts.append(f"Max-Age={int(session.ttl)}")
    if session.path:
        parts.append(f"Path={session.path}")
    return SET_COOKIE, "; ".join((*parts, "HttpOnly"))


def _address_of(data: bytes) -> bytes | None:
    """Returns the address in Envoy's message, None if `data` is none: no address begins with a line feed."""
    if len(data) < 2 or data[0] != _ADDRESS_FIELD:  # noqa: PLR2004 - the field's key and its length
        return None
    length, at, shift = 0, 1, 0
    while at < len(data) and shift <= 14:  # noqa: PLR2004 - three bytes of a varint: more than a cookie may have
        length |= (data[at] & 0x7F) << shift
        at += 1
        if not data[at - 1] & 0x80:
            return data[at : at + length]
        shift += 7
    return None
