"""What of the configuration depends on who asks: a view is all that a node's routes may depend on.

Nodes with equal views share resources. Two things make a difference: the labels of the caller (`sourceLabels`), and
whether it evaluates matches on request fields; one that ignores them would take the rule for every call
(docs/adr/004-param-routes-and-stock-clients.md).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from controlplane.model.traffic import CallMatch, VirtualService

# User agents that read RouteMatch.dynamic_metadata. gRPC's own clients skip it without a word.
_READS_FIELDS = frozenset(("meshsdk", "envoy"))
_MAX_LABELS = 64
_MAX_TEXT = 317 + 1_024  # characters of a label and its value; a longer one counts as absent


@dataclass(frozen=True, slots=True)
class View:
    """The caller's labels, sorted, and whether request-field matches mean something to it."""

    labels: tuple[tuple[str, str], ...] = ()
    request_fields: bool = False

    @property
    def key(self) -> str:
        """A text that is equal for equal views."""
        return json.dumps([self.request_fields, self.labels], separators=(",", ":"))

    def narrowed(self, pairs: Collection[tuple[str, str]]) -> View:
        """Returns the view with those labels only that make a difference: equal results mean equal routes."""
        return View(tuple(pair for pair in self.labels if pair in pairs), self.request_fields)

    def carries(self, labels: Mapping[str, str]) -> bool:
        """Tells whether the caller has all of `labels`."""
        return all(pair in self.labels for pair in labels.items())


DEFAULT_VIEW = View()


def view_of(labels: Mapping[str, str], app: str, user_agent: str) -> View:
    """Returns the view of a node.

    Args:
        labels: the node's labels.
        app: the calling application, which counts as the label `app` where the node has none of that name.
        user_agent: `node.user_agent_name`.
    """
    has = {"app": app, **labels} if app else dict(labels)
    kept = sorted(pair for pair in has.items() if len(pair[0]) + len(pair[1]) <= _MAX_TEXT)
    name = user_agent.partition(" ")[0]  # the server joins name and version
    return View(tuple(kept[:_MAX_LABELS]), name in _READS_FIELDS)


def source_pairs(service: VirtualService) -> frozenset[tuple[str, str]]:
    """Returns every label with its value that some rule wants of its caller."""
    return frozenset(pair for match in _matches(service) for pair in match.source_labels.items())


def depends_on_view(service: VirtualService) -> bool:
    """Tells whether the routes of `service` differ from one view to another."""
    return any(match.source_labels or match.params for match in _matches(service))


def visible(match: CallMatch, view: View) -> bool:
    """Tells whether a route with this match belongs into the view."""
    return not match.impossible and view.carries(match.source_labels) and (view.request_fields or not match.params)


def _matches(service: VirtualService) -> Iterable[CallMatch]:
    return (match for route in service.routes for match in route.matches)
