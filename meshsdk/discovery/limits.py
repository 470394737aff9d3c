"""What an instance and a revision may look like, in words for whoever wrote it. Pure.

Called where instances come in from outside: `meshsdk.lifecycle` (the user's arguments), the registration service and
the adapters (what others left in a registry). Never repairs anything.
"""

from __future__ import annotations

import json
import math
import re

from meshsdk.model.instance import Instance, Revision

_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?")
_METHOD = re.compile(r"/[^/\s]{1,256}/[^/\s]{1,256}")
_MAX_TEXT = 256
_MAX_LABELS = 64
_MAX_LABEL_NAME = 317  # Kubernetes: prefix of 253, "/", name of 63
_MAX_LABEL_VALUE = 1024
_MAX_WEIGHT = 65_535
_MAX_METHODS = 5_000
_MAX_OPTIONS = 16 * 1024  # characters of JSON of one method
_ANY_HOSTS = frozenset({"0.0.0.0", "[::]", "[::0]", "*"})  # noqa: S104 - refused, not bound


def address_problem(address: str) -> str:
    """Returns why peers cannot dial `address` as `host:port`, or ""."""
    host, colon, port = address.rpartition(":")
    if not colon or not host or len(address) > _MAX_TEXT or "/" in host or (":" in host and host[0] != "["):
        return f"address {address[:_MAX_TEXT]!r} is not host:port (an IPv6 host stands in brackets)"
    if not (port.isascii() and port.isdigit() and 0 < int(port) <= 65535):  # noqa: PLR2004 - the highest TCP port
        return f"address {address!r} needs a port from 1 to 65535, the one the server is bound to"
    if host in _ANY_HOSTS:
        return f"address {address!r} is no address that peers can dial; name the host or IP they reach this server by"
    return ""


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
    for name in ("revision", "unit", "region", "zone"):
        if len(getattr(instance, name)) > _MAX_TEXT:
            return f"{name} is longer than {_MAX_TEXT} characters"
    if not (math.isfinite(instance.started_at) and instance.started_at >= 0):
        return "started_at is not unix seconds"
    return _labels_problem(instance)


def _labels_problem(instance: Instance) -> str:
    if len(instance.labels) > _MAX_LABELS:
        return f"{len(instance.labels)} labels are more than {_MAX_LABELS}"
    for key, value in instance.labels.items():
        if not 0 < len(key) <= _MAX_LABEL_NAME:
            return f"label {key[:_MAX_TEXT]!r} must have 1 to {_MAX_LABEL_NAME} characters"
        if len(value) > _MAX_LABEL_VALUE:
            return f"label {key!r}: the value is longer than {_MAX_LABEL_VALUE} characters"
    return ""


def revision_problem(revision: Revision) -> str:
    """Returns why `revision` is not acceptable, or ""."""
    if not _NAME.fullmatch(revision.app):
        return f"app {revision.app[:_MAX_TEXT]!r} is not a name"
    if not 0 < len(revision.revision) <= _MAX_TEXT:
        return f"app {revision.app!r}: a revision must have 1 to {_MAX_TEXT} characters"
    if len(revision.methods) > _MAX_METHODS:
        return f"{len(revision.methods)} methods are more than {_MAX_METHODS}"
    for method in revision.methods:
        if not _METHOD.fullmatch(method.name):
            return f"method {method.name[:_MAX_TEXT]!r} is not /pkg.Service/Method"
        if len(json.dumps(dict(method.options))) > _MAX_OPTIONS:
            return f"method {method.name}: options are longer than {_MAX_OPTIONS} characters of JSON"
    return ""
