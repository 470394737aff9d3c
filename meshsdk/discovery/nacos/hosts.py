"""Instances as Nacos has them, and back. Pure; called by `published` and `views`.

What an instance has and Nacos has not is in the metadata under names that begin with "meshsdk."; its labels are
metadata as they are, so that others can select by them, and the metadata of others' instances are labels here. The unit
is the Nacos cluster of the instance (DEFAULT: no unit). An instance that is not ONLINE has weight 0, which keeps
clients that know nothing of states from calling it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from meshsdk.discovery import limits
from meshsdk.discovery.nacos.wire import JsonObject
from meshsdk.errors import RegistryError
from meshsdk.model.instance import Instance, InstanceState

NO_UNIT = "DEFAULT"
_CLUSTER = re.compile(r"[A-Za-z0-9-]{1,64}")
_ID, _STATE, _STARTED, _WEIGHT = "meshsdk.id", "meshsdk.state", "meshsdk.started-at", "meshsdk.weight"
_REVISION, _REGION, _ZONE = "meshsdk.revision", "meshsdk.region", "meshsdk.zone"
_OURS = frozenset({_ID, _STATE, _STARTED, _WEIGHT, _REGION, _ZONE, _REVISION})
_DUBBO_REVISION = "dubbo.metadata.revision"  # of Dubbo 3's application-level instances
_MAX_NACOS_WEIGHT = 10_000
_MAX_WEIGHT = 65_535
_MAX_LABELS = 64  # as `limits`
_MAX_LABEL_NAME = 317
_MAX_LABEL_VALUE = 1024


def cluster_of(unit: str) -> str:
    """Returns the Nacos cluster of a unit; RegistryError for a unit that cannot be one."""
    if unit and (unit == NO_UNIT or not _CLUSTER.fullmatch(unit)):
        raise RegistryError(
            f"unit {unit!r} cannot be a cluster of Nacos (letters, digits, '-'; at most 64; not DEFAULT)"
        )
    return unit or NO_UNIT


def to_host(instance: Instance) -> JsonObject:
    """Returns an instance as Nacos takes it; RegistryError for one that it cannot keep."""
    ip, _, port = instance.address.rpartition(":")
    if clash := sorted(_OURS & instance.labels.keys()):
        raise RegistryError(f"label {clash[0]!r} is a name that this registry needs for itself")
    online = instance.state is InstanceState.ONLINE
    metadata = {
        **instance.labels,
        _ID: instance.id,
        **{name: value for name, value in _fields(instance).items() if value},
    }
    return {
        "ip": ip.strip("[]"),
        "port": int(port),
        "weight": float(min(instance.weight, _MAX_NACOS_WEIGHT)) if online else 0.0,
        "healthy": True,
        "enabled": True,
        "ephemeral": True,
        "clusterName": cluster_of(instance.unit),
        "metadata": metadata,
    }


def _fields(instance: Instance) -> dict[str, str]:
    return {
        _REVISION: instance.revision,
        _REGION: instance.region,
        _ZONE: instance.zone,
        _STATE: "" if instance.state is InstanceState.ONLINE else instance.state.value,
        _STARTED: repr(instance.started_at) if instance.started_at else "",
        _WEIGHT: str(instance.weight) if instance.weight != 1 else "",
    }


def from_host(app: str, host: JsonObject) -> Instance:
    """Reads an instance, ours or somebody else's; RegistryError says why it cannot be used."""
    ip, port = host.get("ip"), host.get("port")
    if not isinstance(ip, str) or not isinstance(port, int):
        raise RegistryError("it has no ip and port")
    address = f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"
    metadata = _texts(host.get("metadata"))
    cluster = host.get("clusterName")
    instance = Instance(
        app,
        metadata.get(_ID, address),
        address,
        revision=metadata.get(_REVISION) or metadata.get(_DUBBO_REVISION, ""),
        unit=cluster if isinstance(cluster, str) and cluster != NO_UNIT else "",
        region=metadata.get(_REGION, ""),
        zone=metadata.get(_ZONE, ""),
        weight=_weight(host, metadata),
        labels=_labels(metadata),
        state=_state(host, metadata),
        started_at=_started(metadata.get(_STARTED, "0")),
    )
    if problem := limits.instance_problem(instance):
        raise RegistryError(problem)
    return instance


def _texts(raw: object) -> Mapping[str, str]:
    if not isinstance(raw, dict):
        return {}
    return {str(name): value for name, value in raw.items() if isinstance(value, str)}


def _labels(metadata: Mapping[str, str]) -> Mapping[str, str]:
    """The metadata that fit labels: others keep whole documents there, which nobody selects by."""
    fitting = {
        name: value
        for name, value in sorted(metadata.items())
        if name not in _OURS and 0 < len(name) <= _MAX_LABEL_NAME and len(value) <= _MAX_LABEL_VALUE
    }
    if len(fitting) > _MAX_LABELS:
        fitting = dict(list(fitting.items())[:_MAX_LABELS])
    return MappingProxyType(fitting)


def _weight(host: JsonObject, metadata: Mapping[str, str]) -> int:
    if _ID in metadata:
        written = metadata.get(_WEIGHT, "1")
        if not (written.isascii() and written.isdigit() and len(written) < 6):  # noqa: PLR2004 - digits of 65535
            raise RegistryError(f"metadata {_WEIGHT} is not a weight")
        return int(written)
    weight = host.get("weight")
    return max(1, min(_MAX_WEIGHT, round(weight))) if isinstance(weight, int | float) else 1


def _state(host: JsonObject, metadata: Mapping[str, str]) -> InstanceState:
    if host.get("healthy") is False:
        return InstanceState.OFFLINE
    if _ID not in metadata:
        return InstanceState.DRAINING if host.get("weight") == 0 else InstanceState.ONLINE
    try:
        return InstanceState(metadata.get(_STATE, InstanceState.ONLINE.value))
    except ValueError:
        raise RegistryError(f"metadata {_STATE} is none of {', '.join(each.value for each in InstanceState)}") from None


def _started(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise RegistryError(f"metadata {_STARTED} is not unix seconds") from None
