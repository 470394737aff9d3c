"""TrafficSwitches and ShimSets in the tables of `meshctl get`."""

from __future__ import annotations

import pytest

from controlplane.commands.steering_rows import TABLES, body


def row(spec: dict[str, object], **more: object) -> dict[str, object]:
    """A resource as the admin interface shows it."""
    return {"namespace": "default", "name": "x", "origin": "f.yaml:1", "body": {"kind": "K", "spec": spec}, **more}


@pytest.mark.parametrize(
    ("spec", "shown"),
    [
        ({"app": "orders", "client": False, "server": True}, ["orders", "all", "off", "on"]),
        ({"app": "*", "client": "OFF", "percentage": 12.5}, ["*", "12.5%", "off", "-"]),
        (
            {"app": "a", "server": "on", "instances": ["x", "y"], "labels": {"b": "c", "d": "e"}, "percentage": 0},
            ["a", "2 instances b=c,d=e 0%", "-", "on"],
        ),
    ],
)
def test_a_switch_in_a_row(spec: dict[str, object], shown: list[str]) -> None:
    """Whom it is for in words; on and off whether YAML took them for booleans or not; a dash for not decided."""
    columns, make = TABLES["TrafficSwitch"]
    assert make(row(spec, status={"nodes": 3})) == ["default", "x", *shown, "3", "f.yaml:1"]
    assert len(columns) == 8


def test_a_shim_set_without_a_status_yet() -> None:
    """Before the controller has looked at it, its counts are empty; its body is as it was written."""
    columns, make = TABLES["ShimSet"]
    found = row({"version": "1"})
    assert make(found) == ["x", *[""] * (len(columns) - 1)]
    assert body(found) == found["body"]
    assert body({**found, "status": {"phase": "Complete"}}) == {
        "kind": "K",
        "spec": {"version": "1"},
        "status": {"phase": "Complete"},
    }
