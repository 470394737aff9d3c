"""Names: `xds:` targets, listener templates and `xdstp:` resource names (gRFC A47, xRFC TP1). Pure.

Called by the session for each watch and by the store for each look-up; never talks to anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote, unquote

from meshsdk.bootstrap import Bootstrap
from meshsdk.errors import ConfigurationError
from meshsdk.model.resources import Kind, RegistrySource

_SUB_DELIMS = "!$&'()*+,;="
_PATH_SAFE = f"-._~{_SUB_DELIMS}:@/"  # RFC 3986 section 3.3, as A47 demands for xdstp names
_AUTHORITY_SAFE = f"-._~{_SUB_DELIMS}:[]@"


@dataclass(frozen=True, slots=True)
class Target:
    """A parsed target: the listener to ask for, and the host that selects a virtual host and is sent as :authority.

    `source`: of a `mesh:` target (`direct`), which has no listener; its `listener` is the name of the instances.
    `kind`: RUNTIME for a watch on a runtime layer (`layer`), CLUSTER for one on a cluster (`cluster_target`), whose
    name stands in place of the listener's.
    """

    text: str
    listener: str
    host: str
    source: RegistrySource | None = None
    kind: Kind = Kind.LISTENER


def parse_target(text: str, bootstrap: Bootstrap) -> Target:
    """Reads `xds:///name`, `xds:name` or `xds://authority/name` by the rules of A47.

    Raises ConfigurationError for another scheme, an empty name, or an authority that the bootstrap does not have.
    """
    scheme, _, rest = text.partition(":")
    if scheme != "xds":
        message = f"target {text!r}: not an xds: target; write xds:///name or xds://authority/name"
        raise ConfigurationError(message)
    authority = ""
    if rest.startswith("//"):
        authority, _, path = rest[2:].partition("/")
    else:
        path = rest.removeprefix("/")
    name = unquote(path)
    if not name:
        message = f"target {text!r}: names no service; write xds:///name"
        raise ConfigurationError(message)
    listener = _listener_name(text, unquote(authority), name, bootstrap)
    owner = authority_of(listener)
    if owner and owner not in bootstrap.authorities:
        raise _unknown_authority(text, owner, bootstrap)
    return Target(text, canonical(listener), quote(name, safe=_AUTHORITY_SAFE))


def _listener_name(text: str, authority: str, name: str, bootstrap: Bootstrap) -> str:
    template = bootstrap.listener_template
    if authority:
        if authority not in bootstrap.authorities:
            raise _unknown_authority(text, authority, bootstrap)
        template = bootstrap.authorities[authority].listener_template
    if template.startswith("xdstp:"):
        name = quote(name, safe=_PATH_SAFE)
    return template.replace("%s", name)


def _unknown_authority(text: str, authority: str, bootstrap: Bootstrap) -> ConfigurationError:
    known = ", ".join(sorted(bootstrap.authorities)) or "none"
    return ConfigurationError(
        f"target {text!r}: authority {authority!r} is not among the authorities of {bootstrap.origin} ({known})"
    )


def authority_of(name: str) -> str | None:
    """Returns the authority of an `xdstp:` name ("" if it has none), and None for an old-style name."""
    if not name.startswith("xdstp:"):
        return None
    rest = name[len("xdstp:") :]
    return unquote(rest[2:].partition("/")[0]) if rest.startswith("//") else ""


def canonical(name: str) -> str:
    """Normalises an `xdstp:` name: context parameters sorted, of equal keys the last (A47). Others are as they are."""
    if "?" not in name or not name.startswith("xdstp:"):
        return name
    base, _, query = name.partition("?")
    query, hash_mark, fragment = query.partition("#")
    parameters = dict(part.partition("=")[::2] for part in query.split("&") if part)
    text = "&".join(f"{key}={value}" for key, value in sorted(parameters.items()))
    return f"{base}?{text}{hash_mark}{fragment}" if text else f"{base}{hash_mark}{fragment}"


def is_glob(name: str, kind: Kind) -> bool:
    """Says whether a name is that of a collection of all resources below a path: `xdstp://authority/TYPE/.../*`."""
    base, _, rest = name.partition("?")
    if not base.startswith("xdstp://") or "#" in base or "#" in rest:
        return False
    _, _, path = base[len("xdstp://") :].partition("/")
    return path.startswith(f"{kind.value.rpartition('/')[2]}/") and path.endswith("/*")


def member_of(name: str) -> tuple[str, str]:
    """Returns (name of the glob collection, last segment) of a resource in it (xRFC TP1): parameters must be equal."""
    base, mark, parameters = name.partition("?")
    parent, _, identifier = base.rpartition("/")
    if not mark:
        return f"{parent}/*", identifier
    return canonical(f"{parent}/*?{parameters}"), identifier
