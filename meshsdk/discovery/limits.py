"""What an instance and a revision may look like, in words for whoever wrote it. Pure.

Called where instances come in from outside: `meshsdk.lifecycle` (the user's arguments), the registration service and
the adapters (what others left in a registry). Never repairs anything. What passes here can be written as UTF-8 and
dialled: nothing behind it checks that again.
"""

from __future__ import annotations

import ipaddress
import json
import re

from meshsdk.model.instance import Instance, Revision

_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?")
_METHOD = re.compile(r"/[^/\s]{1,256}/[^/\s]{1,256}")
_LABEL = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"  # RFC 1123 section 2.1, and the "_" of container runtimes
_HOST = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(\.{_LABEL})*")
_UNWRITABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # control characters, and what UTF-8 has no bytes for
# A label's value may be a document of several lines, which others keep in their registries.
_UNWRITABLE_VALUE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_MAX_TEXT = 256
_MAX_LABELS = 64
_MAX_LABEL_NAME = 317  # Kubernetes: prefix of 253, "/", name of 63
_MAX_LABEL_VALUE = 1024
_MAX_WEIGHT = 65_535
_MAX_METHODS = 5_000
_MAX_OPTIONS = 16 * 1024  # characters of JSON of one method
_LATEST = 1e15  # unix seconds; a number of hundreds of digits, which JSON may hold, fits into no float
_NO_ADDRESS = "is no address that peers can dial; name the host or IP they reach this server by"


def address_problem(address: str) -> str:
    """Returns why peers cannot dial `address` as `host:port`, or "".

    `host` is a name (RFC 1123), an IPv4 address, or an IPv6 address in brackets and without a zone, which means
    something on one machine only.
    """
    host, colon, port = address.rpartition(":")
    if not colon or not host or len(address) > _MAX_TEXT:
        return f"address {address[:_MAX_TEXT]!r} is not host:port (an IPv6 host stands in brackets)"
    if not (port.isascii() and port.isdigit() and 0 < int(port) <= 65535):  # noqa: PLR2004 - the highest TCP port
        return f"address {address!r} needs a port from 1 to 65535, the one the server is bound to"
    if host == "*":
        return f"address {address!r} {_NO_ADDRESS}"
    if host[0] == "[" or host.rpartition(".")[2].isdigit():  # no top-level domain is a number: RFC 1123 section 2.1
        return _ip_problem(address, host)
    if not _HOST.fullmatch(host):
        return f"address {address!r} is not host:port: {host!r} is neither a name nor an IP address"
    return ""


def _ip_problem(address: str, host: str) -> str:
    ip: ipaddress.IPv4Address | ipaddress.IPv6Address | None
    try:
        ip = ipaddress.IPv6Address(host[1:-1]) if host[0] == "[" else ipaddress.IPv4Address(host)
    except ValueError:
        ip = None
    if ip is None or "%" in host or (host[0] == "[") is not (host[-1] == "]"):
        return f"address {address!r} is not host:port: {host!r} is no IP address"
    return f"address {address!r} {_NO_ADDRESS}" if ip.is_unspecified else ""


def instance_problem(instance: Instance) -> str:
    """Returns why `instance` is not acceptable, or ""."""
    if not _NAME.fullmatch(instance.app):
        return f"app {instance.app[:_MAX_TEXT]!r} is not a name (letters, digits, '.', '_', '-'; at most 253)"
    if not 0 < len(instance.id) <= _MAX_TEXT:
        return f"app {instance.app!r}: instance id must have 1 to {_MAX_TEXT} characters"
    if problem := address_problem(instance.address):
        return problem
    if not 1 <= instance.weight <= _MAX_WEIGHT:
        return f"weight {instance.weight} is not between 1 and {_MAX_WEIGHT}"
    for name in ("id", "revision", "unit", "region", "zone"):
        text = getattr(instance, name)
        if len(text) > _MAX_TEXT:
            return f"{name} is longer than {_MAX_TEXT} characters"
        if _UNWRITABLE.search(text):
            return f"{name} {text!r} has a character that no text may have"
    if not 0 <= instance.started_at <= _LATEST:
        return "started_at is not unix seconds"
    return _labels_problem(instance)


def _labels_problem(instance: Instance) -> str:
    if len(instance.labels) > _MAX_LABELS:
        return f"{len(instance.labels)} labels are more than {_MAX_LABELS}"
    for key, value in instance.labels.items():
        if not 0 < len(key) <= _MAX_LABEL_NAME:
            return f"label {key[:_MAX_TEXT]!r} must have 1 to {_MAX_LABEL_NAME} characters"
        if _UNWRITABLE.search(key):
            return f"label {key!r} has a character that no text may have"
        if len(value) > _MAX_LABEL_VALUE:
            return f"label {key!r}: the value is longer than {_MAX_LABEL_VALUE} characters"
        if _UNWRITABLE_VALUE.search(value):
            return f"label {key!r}: the value has a character that no text may have"
    return ""


def revision_problem(revision: Revision) -> str:
    """Returns why `revision` is not acceptable, or ""."""
    if not _NAME.fullmatch(revision.app):
        return f"app {revision.app[:_MAX_TEXT]!r} is not a name"
    if not 0 < len(revision.revision) <= _MAX_TEXT:
        return f"app {revision.app!r}: a revision must have 1 to {_MAX_TEXT} characters"
    if _UNWRITABLE.search(revision.revision):
        return f"app {revision.app!r}: revision {revision.revision!r} has a character that no text may have"
    if len(revision.methods) > _MAX_METHODS:
        return f"{len(revision.methods)} methods are more than {_MAX_METHODS}"
    for method in revision.methods:
        if not _METHOD.fullmatch(method.name) or _UNWRITABLE.search(method.name):
            return f"method {method.name[:_MAX_TEXT]!r} is not /pkg.Service/Method"
        options = json.dumps(dict(method.options), ensure_ascii=False)  # control characters are escaped
        if len(options) > _MAX_OPTIONS:
            return f"method {method.name}: options are longer than {_MAX_OPTIONS} characters of JSON"
        if _SURROGATE.search(options):
            return f"method {method.name}: options have a character that no text may have"
    return ""
