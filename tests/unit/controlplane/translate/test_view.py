"""Which callers share routes, and which rules a caller is shown."""

from __future__ import annotations

import pytest

from controlplane.model.configuration import Configuration
from controlplane.model.identity import ResourceId, ResourceKind
from controlplane.model.traffic import CallMatch, Destination, HttpRoute, VirtualService
from controlplane.translate.view import (
    DEFAULT_VIEW,
    View,
    endpoint_view,
    route_view,
    source_pairs,
    view_of,
    visible,
)
from meshsdk.model.matching import FieldMatch, PathKind, PathMatch, PresentMatch

EVERY = PathMatch(PathKind.PREFIX, "/")
PLAIN = CallMatch("", EVERY)
FOR_WEB = CallMatch("", EVERY, source_labels={"app": "web", "tier": "1"})
ON_FIELD = CallMatch("", EVERY, params=(FieldMatch(("id",), PresentMatch()),))


def service(*matches: CallMatch) -> VirtualService:
    """Returns routes with these matches."""
    identity = ResourceId(ResourceKind.VIRTUAL_SERVICE, "default", "orders")
    return VirtualService(identity, ("orders",), (HttpRoute("", matches, (Destination("orders", "", 1),)),))


@pytest.mark.parametrize(
    ("labels", "agent", "match", "shown"),
    [
        ({}, "gRPC C-core linux", PLAIN, True),
        ({"app": "web", "tier": "1"}, "gRPC C-core linux", FOR_WEB, True),
        ({"app": "web"}, "meshsdk", FOR_WEB, False),
        ({"app": "web", "tier": "2"}, "meshsdk", FOR_WEB, False),
        ({}, "meshsdk", ON_FIELD, True),
        ({}, "envoy", ON_FIELD, True),
        ({}, "gRPC C-core linux", ON_FIELD, False),
        ({}, "gRPC Node Pure JS", ON_FIELD, False),
        ({}, "", ON_FIELD, False),
        ({}, "meshsdk", CallMatch("", EVERY, impossible=True), False),
    ],
)
def test_visible(labels: dict[str, str], agent: str, match: CallMatch, shown: bool) -> None:
    """Rules for other callers, and rules that the caller would take for every call, are left out."""
    assert visible(match, view_of(labels, "", agent)) is shown


def test_application_counts_as_label() -> None:
    """A node's application is its label `app`, unless it has one of its own."""
    assert view_of({}, "web", "").labels == (("app", "web"),)
    assert view_of({"app": "shop"}, "web", "").labels == (("app", "shop"),)


def test_equal_nodes_share_a_view() -> None:
    """The order of labels makes no difference; another agent does."""
    one = view_of({"a": "1", "b": "2"}, "web", "meshsdk")
    assert one.key == view_of({"b": "2", "a": "1"}, "web", "meshsdk").key
    assert one.key != view_of({"a": "1", "b": "2"}, "web", "grpc").key


def test_hostile_labels_are_bounded() -> None:
    """A node with a million letters in a label, or a hundred labels, gives a small view."""
    view = view_of({"x": "y" * 1_000_000, **{str(number): "" for number in range(100)}}, "", "")
    assert len(view.labels) == 64
    assert "x" not in dict(view.labels)


def test_labels_that_count_are_kept_first() -> None:
    """Of a node with a hundred labels those that rules name are kept, and its application, whatever they are called."""
    labels = {**{f"a{number:03}": "" for number in range(100)}, "app": "web", "tier": "1", "zone": "x"}
    view = view_of(labels, "", "", counting=source_pairs(service(FOR_WEB)))
    assert len(view.labels) == 64
    assert dict(view.labels).items() >= {("app", "web"), ("tier", "1")}
    assert "app" in dict(view_of(labels, "", "").labels)


def test_narrowing_keeps_what_makes_a_difference() -> None:
    """Views that differ in labels no rule names have equal routes."""
    routes = service(PLAIN, FOR_WEB)
    assert source_pairs(routes) == {("app", "web"), ("tier", "1")}
    view = view_of({"pod": "a", "tier": "2"}, "web", "meshsdk")
    assert route_view("orders", Configuration.of([routes]), view) == View((("app", "web"),))


@pytest.mark.parametrize(("match", "depends"), [(PLAIN, False), (FOR_WEB, True), (ON_FIELD, True)])
def test_routes_that_differ(match: CallMatch, depends: bool) -> None:
    """Only rules with source labels or request fields make the routes of views differ."""
    view = view_of({"app": "web", "tier": "1"}, "", "meshsdk")
    assert (route_view("orders", Configuration.of([service(match)]), view) != DEFAULT_VIEW) is depends


@pytest.mark.parametrize(
    ("metadata", "labels", "unit"),
    [
        ({"UNIT": "east"}, {"meshsdk.io/unit": "west"}, "east"),
        ({}, {"meshsdk.io/unit": "west"}, "west"),
        ({"UNIT": 7}, {}, ""),
        ({"UNIT": "a|b"}, {}, ""),
        ({"UNIT": "x" * 64}, {}, ""),
    ],
)
def test_unit_of_a_node(metadata: dict[str, object], labels: dict[str, str], unit: str) -> None:
    """A node says its unit in its metadata, else in a label; what is no name of a unit counts as none."""
    assert view_of(labels, "", "", metadata=metadata).unit == unit


@pytest.mark.parametrize("feature", ["leds", "registry_clusters"])
def test_features(feature: str) -> None:
    """A client announces what it can in its features, or in its metadata where it cannot set those."""
    name = f"meshsdk.{feature}"
    assert getattr(view_of({}, "", "", {name}), feature) is True
    assert getattr(view_of({}, "", "", metadata={name: True}), feature) is True
    assert getattr(view_of({}, "", "", metadata={name: "true"}), feature) is False
    assert view_of({}, "", "", {name}).key != view_of({}, "", "").key


def test_endpoints_differ_by_leds_only() -> None:
    """Of a view only LEDS makes a difference to endpoints."""
    view = view_of({"app": "web"}, "", "meshsdk", {"meshsdk.leds"}, {"UNIT": "east"})
    assert endpoint_view(view) == View(leds=True)
