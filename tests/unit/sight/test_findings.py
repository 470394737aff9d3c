"""What doctor makes of a process's report."""

from __future__ import annotations

import pytest

from meshsdk.sight.findings import findings

ANSWERED = {"uri": "cp:1", "phase": "answered", "transport": "delta", "problem": ""}
DOWN = {"uri": "cp:2", "phase": "waiting", "transport": "delta", "problem": "xDS server cp:2: UNAVAILABLE: refused"}


def resource(state="present", **facts):
    """A resource's row."""
    row = {"type": "route", "name": "orders", "state": state, "kept": False, "version": "1", "age": 1.0}
    return {**row, "server": "cp:1", "problem": "", "no_effect": [], **facts}


def lines(*resources, servers=(ANSWERED,), targets=(), ignored=()):
    """The findings of a process with one mesh, as (wrong, text)."""
    mesh = {"servers": servers, "targets": targets, "resources": resources, "bootstrap_ignored": ignored}
    return [(one.wrong, one.text) for one in findings({"meshes": [mesh]})]


def test_nothing_to_say():
    """Resources in force from a server that answers, and targets that are complete: no finding."""
    complete = {"target": "xds:///orders", "progress": "xds:///orders: configuration is complete"}
    assert lines(resource(), targets=[complete]) == []


def test_a_refused_resource():
    """A NACK is wrong; that its last good version is in use is said."""
    found = lines(resource("invalid", problem="routes[0]: bad", kept=True))
    assert found == [(True, "route 'orders': refused (NACK): routes[0]: bad; the last good version is used")]


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"state": "absent"}, "route 'orders': the server does not have it"),
        ({"state": "requested"}, "route 'orders': requested"),
        ({"state": "unreachable", "problem": "no answer"}, "route 'orders': no answer"),
        ({"problem": "odd"}, "route 'orders': odd"),
    ],
)
def test_a_resource_that_is_not_there(facts, words):
    """Each way of not having a resource is wrong, in words."""
    assert lines(resource(**facts)) == [(True, words)]


def test_what_has_no_effect_comes_last():
    """Fields without effect are worth knowing, not wrong, and stand behind what is wrong."""
    found = lines(resource(no_effect=["routes.tracing", "routes.cors"]), resource("absent"), ignored=["xds_v9"])
    assert [wrong for wrong, _ in found] == [True, False, False]
    assert found[1][1] == "route 'orders': without effect here: routes.tracing, routes.cors"
    assert found[2][1] == "bootstrap: xds_v9 has no effect here"


def test_a_server_that_is_down():
    """It is wrong where no other answers; behind one that does it is only worth knowing."""
    assert [wrong for wrong, _ in lines(servers=[DOWN])] == [True]
    assert [wrong for wrong, _ in lines(servers=[DOWN, ANSWERED])] == [False]


def test_a_target_that_waits():
    """What a target waits for is said once, with its name."""
    waiting = {"target": "xds:///carts", "progress": "waiting for listener 'carts' from xDS server cp:1"}
    assert lines(targets=[waiting]) == [(True, "xds:///carts: waiting for listener 'carts' from xDS server cp:1")]
