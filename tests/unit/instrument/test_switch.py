"""The traffic switch: where it starts, what a layer says, who is told."""

from __future__ import annotations

import logging

import pytest

from meshsdk.instrument.switch import Switch, Traffic, follow_layer, start_of
from meshsdk.model.resources import RuntimeLayer

ON, OFF = Traffic(client=True, server=True), Traffic(client=False, server=False)


def layer(**values: object) -> RuntimeLayer:
    """A layer as the control plane publishes it."""
    return RuntimeLayer("meshsdk.traffic_switch", values)


@pytest.mark.parametrize(
    ("word", "expected"),
    [("", ON), ("on", ON), ("OFF", OFF), ("client", Traffic(server=False)), ("server", Traffic(client=False))],
)
def test_the_environment_says_how_to_start(word, expected):
    """One word for both sides, or the one side that is on."""
    assert start_of({"MESHSDK_INTERCEPT": word}) == expected
    assert start_of({}) == ON


def test_an_unknown_word_is_said_and_starts_on(caplog):
    """A typing error must not silently take a program out of the mesh."""
    assert start_of({"MESHSDK_INTERCEPT": "offf"}) == ON
    assert "offf" in caplog.text


def test_a_layer_decides_each_side():
    """`client` and `server` are read on their own."""
    assert follow_layer(layer(client=False, server=True), ON) == Traffic(client=False)
    assert follow_layer(layer(client=True, server=False), ON) == Traffic(server=False)


@pytest.mark.parametrize("values", [{}, {"client": "off", "server": 0.0}, {"other": False}])
def test_what_is_no_boolean_counts_as_not_said(values):
    """A layer of another make changes nothing."""
    assert follow_layer(layer(**values), ON) == ON
    assert follow_layer(layer(**values), OFF) == OFF


def test_a_layer_that_was_taken_back_leaves_the_start():
    """A control plane without the layer, or that withdrew it, decides nothing."""
    assert follow_layer(None, ON) == ON
    assert follow_layer(None, OFF) == OFF


def test_a_side_started_off_needs_a_decision():
    """The control plane's default does not switch on what the environment switched off; a TrafficSwitch does."""
    assert follow_layer(layer(client=True, server=True), OFF) == OFF
    assert follow_layer(layer(client=True, server=True, decided=("client",)), OFF) == Traffic(server=False)
    assert follow_layer(layer(client=True, server=True, decided="client"), OFF) == OFF


class Listener:
    """Notes what it is told."""

    def __init__(self, switch: Switch) -> None:
        self.told: list[Traffic] = []
        self.switch = switch
        switch.listen(self.tell)

    def tell(self) -> None:
        """See Switch.listen."""
        self.told.append(self.switch.traffic)


def test_listeners_are_told_of_changes_only(caplog):
    """The same state again is no news; a listener that is gone is forgotten."""
    caplog.set_level(logging.INFO)
    switch = Switch(ON)
    staying, gone = Listener(switch), Listener(switch)
    del gone
    switch.set(ON)
    switch.set(OFF)
    switch.set(OFF)
    switch.set(ON)
    assert staying.told == [OFF, ON]
    assert "interception: client off, server off" in caplog.text


def test_the_control_plane_is_followed_once():
    """However many channels ask for it."""
    watched = []

    class Engine:
        def watch_runtime(self, name, on_layer):
            watched.append((name, on_layer))

    switch = Switch(ON)
    switch.follow(Engine())
    switch.follow(Engine())
    [(name, on_layer)] = watched
    assert name == "meshsdk.traffic_switch"
    on_layer(layer(client=False, server=True))
    assert switch.traffic == Traffic(client=False)
