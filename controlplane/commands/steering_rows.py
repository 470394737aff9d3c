"""TrafficSwitches and ShimSets as `meshctl get` shows them: tables of their own, bodies with a status."""

from __future__ import annotations

from collections.abc import Callable, Mapping

Row = Mapping[str, object]


def _fields(row: Row, name: str) -> Row:
    found = row.get(name)
    return found if isinstance(found, Mapping) else {}


def _spec(row: Row) -> Row:
    return _fields(_fields(row, "body"), "spec")


def _switch(row: Row) -> list[str]:
    spec, status = _spec(row), _fields(row, "status")
    instances, labels, percentage = spec.get("instances"), spec.get("labels"), spec.get("percentage")
    parts = [
        f"{len(instances)} instances" if isinstance(instances, list) else "",
        ",".join(f"{key}={value}" for key, value in labels.items()) if isinstance(labels, Mapping) else "",
        f"{percentage}%" if percentage is not None else "",
    ]
    return [
        str(row["namespace"]),
        str(row["name"]),
        str(spec.get("app", "")),
        " ".join(filter(None, parts)) or "all",
        _turn(spec.get("client")),
        _turn(spec.get("server")),
        str(status.get("nodes", "")),
        str(row["origin"]),
    ]


def _turn(value: object) -> str:
    if value is None:
        return "-"
    return ("on" if value else "off") if isinstance(value, bool) else str(value).lower()


def _shim_set(row: Row) -> list[str]:
    status = _fields(row, "status")
    names = ("version", "shims", "updated", "ready", "failed", "phase", "message")
    return [str(row["name"]), *(str(status.get(name, "")) for name in names)]


TABLES: Mapping[str, tuple[tuple[str, ...], Callable[[Row], list[str]]]] = {
    "TrafficSwitch": (("namespace", "name", "app", "for", "client", "server", "nodes", "from"), _switch),
    "ShimSet": (("name", "version", "shims", "updated", "ready", "failed", "phase", "message"), _shim_set),
}
"""By kind: the columns and what makes a row of them."""


def body(row: Row) -> object:
    """Returns the document of a resource, with its status if it has one."""
    found = row["body"]
    if "status" not in row or not isinstance(found, Mapping):
        return found
    return {**found, "status": row["status"]}
