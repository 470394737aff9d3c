"""Glob collections of xdstp names (xDS TP1): which collection a resource is in, and which one a client asks for. Pure.

`xdstp://AUTHORITY/TYPE/PATH/*?PARAMS` stands for all resources `xdstp://AUTHORITY/TYPE/PATH/LAST?PARAMS`. Clients
write one and the same name in different ways: percent-encoded or not, parameters in any order. A *key* is the one way
in which the server writes a collection. Parameters that begin with `xds.` are what a client says of itself
(`xds.node.id`): they choose nothing here, views do that, and are given back on the names that the client gets.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote

SCHEME = "xdstp:"
# A context parameter that makes another name for the same collection (see `Packed.turned`). Envoy 1.40 does not say at
# a reconnection which members it holds, and keeps those that went meanwhile for good; it starts afresh with a
# collection that is called otherwise.
TURNED = "meshsdk.turned"
_OF_THE_CLIENT = "xds."
_LAST_IS_ALL = "/*"


@dataclass(frozen=True, slots=True)
class Glob:
    """A subscription to a collection. `text`: as the client wrote it. `suffix`: its parameters with the "?", or ""."""

    text: str
    key: str
    suffix: str

    def named(self, name: str) -> str:
        """Returns the name of a member as this client is to read it."""
        return name.partition("?")[0] + self.suffix


def glob_of(name: str) -> Glob | None:
    """Returns the collection that a client asks for by `name`, None if it names a single resource."""
    if not name.startswith(SCHEME):
        return None
    path, mark, parameters = name.partition("?")
    if not path.endswith(_LAST_IS_ALL):
        return None
    return Glob(name, _key(path, parameters), mark + parameters)


def collection_of(name: str) -> str:
    """Returns the key of the collection that a resource is in; "" for a name that is in none."""
    if not name.startswith(SCHEME):
        return ""
    path, _, parameters = name.partition("?")
    return _key(path, parameters)


def is_of_client(parameter: str) -> bool:
    """Tells whether a context parameter chooses nothing: one that clients set to describe themselves, or ours."""
    return parameter.startswith(_OF_THE_CLIENT) or parameter == TURNED


def parameters_of(name: str) -> tuple[str, ...]:
    """Returns the names of the context parameters in a resource name."""
    return tuple(key for key, _ in _pairs(name.partition("?")[2]))


def _key(path: str, parameters: str) -> str:
    # The directory is decoded before it is compared: Envoy decodes a name and encodes it again in its own way.
    directory = unquote(path.rpartition("/")[0])
    if not parameters:
        return directory
    counting = sorted(pair for pair in _pairs(parameters) if not is_of_client(pair[0]))
    return directory + "".join(f"?{key}={value}" for key, value in counting)


def _pairs(parameters: str) -> list[tuple[str, str]]:
    found = (part.partition("=") for part in parameters.split("&") if part)
    return [(unquote(key), unquote(value)) for key, _, value in found]
