"""What of the configuration depends on who asks: a view is all that a node's resources may depend on.

Nodes with equal views share resources, and views whose projection is the same share bytes: `route_view`,
`cluster_view` and `endpoint_view` say what of a view makes a difference to a service's RDS, CDS and EDS resources.

Labels count where rules name them (`sourceLabels`). Matches on request fields count for those that evaluate them; one
that ignores them would take the rule for every call (docs/adr/004-param-routes-and-stock-clients.md).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from controlplane.model.configuration import Configuration
from controlplane.model.discovery import DiscoveryPolicy
from controlplane.model.names import UNIT, UNIT_LABEL
from controlplane.model.traffic import CallMatch, VirtualService
from controlplane.model.units import UnitPolicy, UnitScope

LEDS_FEATURE = "meshsdk.leds"  # in node.client_features, or true in node.metadata
REGISTRY_FEATURE = "meshsdk.registry_clusters"
LOADS_FEATURE = "meshsdk.load_reports"
# User agents that read RouteMatch.dynamic_metadata. gRPC's own clients skip it without a word.
_READS_FIELDS = frozenset(("meshsdk", "envoy"))
MAX_LABELS = 64  # of a node that are kept, those that count first
_MAX_TEXT = 317 + 1_024  # characters of a label and its value; a longer one counts as absent


@dataclass(frozen=True, slots=True)
class View:
    """The caller's labels, sorted, its unit ("" for none), and what it can do.

    `request_fields`: matches on fields of the request. `leds`: endpoints as resources of their own (LEDS).
    `registry_clusters`: clusters whose endpoints come straight from a registry. `node`: the caller's id, for one that
    asks for Runtime resources and so has a view of its own; None for all others. `load_reports`: asked to report the
    counts of its calls (LRS).
    """

    labels: tuple[tuple[str, str], ...] = ()
    request_fields: bool = False
    unit: str = ""
    leds: bool = False
    registry_clusters: bool = False
    node: str | None = None
    load_reports: bool = False

    @property
    def app(self) -> str:
        """The calling application, "" if it is not known."""
        return dict(self.labels).get("app", "")

    @property
    def key(self) -> str:
        """A text that is equal for equal views."""
        able = [self.request_fields, self.leds, self.registry_clusters, self.load_reports]
        own = [] if self.node is None else [self.node]
        return json.dumps([*able, self.unit, self.labels, *own], separators=(",", ":"))

    def narrowed(self, pairs: Collection[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
        """Returns those labels only that are among `pairs`."""
        return tuple(pair for pair in self.labels if pair in pairs)

    def carries(self, labels: Mapping[str, str]) -> bool:
        """Tells whether the caller has all of `labels`."""
        return all(pair in self.labels for pair in labels.items())


DEFAULT_VIEW = View()


def view_of(
    labels: Mapping[str, str],
    app: str,
    user_agent: str,
    features: Collection[str] = (),
    metadata: Mapping[str, object] | None = None,
    counting: Collection[tuple[str, str]] = (),
) -> View:
    """Returns the view of a node.

    Args:
        labels: the node's labels.
        app: the calling application, which counts as the label `app` where the node has none of that name.
        user_agent: `node.user_agent_name`.
        features: `node.client_features`.
        metadata: `node.metadata` as JSON values. `UNIT` is the node's unit, else its label `meshsdk.io/unit` is; what
            is no name of a unit counts as none.
        counting: labels with the values that rules name (`counting_pairs`), of use for a node with many labels: where
            it has more than MAX_LABELS, these are kept first, then `app`, then the others by name.
    """
    facts = metadata or {}
    has = {"app": app, **labels} if app else dict(labels)
    short = [pair for pair in has.items() if len(pair[0]) + len(pair[1]) <= _MAX_TEXT]
    first = sorted(short, key=lambda pair: (pair not in counting, pair[0] != "app", pair))
    unit = facts.get("UNIT") or labels.get(UNIT_LABEL)
    return View(
        labels=tuple(sorted(first[:MAX_LABELS])),
        request_fields=user_agent.partition(" ")[0] in _READS_FIELDS,  # the server joins name and version
        unit=unit if isinstance(unit, str) and UNIT.fullmatch(unit) else "",
        leds=LEDS_FEATURE in features or facts.get(LEDS_FEATURE) is True,
        registry_clusters=REGISTRY_FEATURE in features or facts.get(REGISTRY_FEATURE) is True,
        load_reports=LOADS_FEATURE in features or facts.get(LOADS_FEATURE) is True,
    )


# -- projections ------------------------------------------------------------------------------------------------------


def route_view(host: str, configuration: Configuration, view: View) -> View:
    """Returns what the routes of `host` depend on: equal results mean equal RDS resources."""
    service = configuration.virtual_services.get(host)
    hosts = _destinations(host, configuration)
    policies = [configuration.units[name] for name in hosts if name in configuration.units]
    moving = [found for name in hosts if (found := configuration.discovery_of(name)) and found.interface]
    fields = service is not None and any(match.params for match in _matches(service))
    pairs = (source_pairs(service) if service else frozenset()).union(*map(consumer_pairs, moving))
    return View(
        labels=view.narrowed(pairs),
        request_fields=view.request_fields and (fields or any(map(_for_agents, policies))),
        unit=_unit(policies, view),
        registry_clusters=view.registry_clusters and bool(moving),
    )


def cluster_view(host: str, configuration: Configuration, view: View) -> View:
    """Returns what the clusters of `host` depend on: equal results mean equal CDS resources, in number and content."""
    policy = configuration.units.get(host)
    found = configuration.discovery_of(host)
    direct = view.registry_clusters and found is not None
    return View(
        labels=view.narrowed(consumer_pairs(found)) if found and (direct or found.interface) else (),
        unit=_unit([policy] if policy else [], view),
        registry_clusters=direct,
        load_reports=view.load_reports,
    )


def endpoint_view(view: View) -> View:
    """Returns what EDS resources depend on."""
    return View(leds=view.leds)


def clusters_vary(host: str, configuration: Configuration) -> bool:
    """Tells whether some views have clusters of `host` that others must not see.

    Such clusters belong to views only, also to the default one: what is published for all reaches everyone who
    subscribes to all clusters at once (Envoy).
    """
    return host in configuration.units


def _destinations(host: str, configuration: Configuration) -> Collection[str]:
    service = configuration.virtual_services.get(host)
    if service is None:
        return (host,)
    return {destination.host for destination in service.targets()}


def _unit(policies: Iterable[UnitPolicy], view: View) -> str:
    return view.unit if any(view.unit in policy.units for policy in policies) else ""


def _for_agents(policy: UnitPolicy) -> bool:
    """Tells whether routes under a policy may be for some agents only: fields as keys, and words of refusal."""
    return any(service.scope is UnitScope.CLOSED for service in policy.services.values())


# -- labels -----------------------------------------------------------------------------------------------------------


def source_pairs(service: VirtualService) -> frozenset[tuple[str, str]]:
    """Returns every label with its value that some rule wants of its caller."""
    return frozenset(pair for match in _matches(service) for pair in match.source_labels.items())


def consumer_pairs(policy: DiscoveryPolicy) -> frozenset[tuple[str, str]]:
    """Returns every label with its value that a policy speaks of."""
    return frozenset(pair for consumer in policy.consumers for pair in consumer.source_labels.items())


def counting_pairs(configuration: Configuration) -> frozenset[tuple[str, str]]:
    """Returns every label with its value that makes a difference to the resources of any host."""
    found = {pair for service in configuration.virtual_services.values() for pair in source_pairs(service)}
    for policy in configuration.discovery.values():
        found |= consumer_pairs(policy)
    return frozenset(found)


def steered_pairs(configuration: Configuration) -> frozenset[tuple[str, str]]:
    """Returns every label with its value that makes a difference to what a node is told about itself (RTDS)."""
    return frozenset(pair for switch in configuration.switches for pair in switch.labels.items())


def visible(match: CallMatch, view: View) -> bool:
    """Tells whether a route with this match belongs into the view."""
    return not match.impossible and view.carries(match.source_labels) and (view.request_fields or not match.params)


def _matches(service: VirtualService) -> Iterator[CallMatch]:
    return (match for route in service.routes for match in route.matches)
