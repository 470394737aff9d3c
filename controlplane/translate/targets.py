"""Which workloads make up each EDS resource: a target is a host or one of its subsets, all of it or in a unit. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from controlplane.model.configuration import Configuration
from controlplane.model.names import UNIT_LABEL
from controlplane.model.service import Resolution, ServicePort, Workload
from controlplane.translate.names import by_interface, cluster_name
from meshsdk.model.instance import Instance, InstanceState


@dataclass(frozen=True, slots=True)
class Target:
    """One EDS resource. Its endpoints are `listed`, or the workloads and instances that carry all of `labels`.

    `labels` has the selector's labels and the subset's. `selects` is False where the endpoints are listed. `unit`: the
    only unit they belong to, "" for any but the `drained` ones.
    """

    name: str
    labels: Mapping[str, str]
    port: ServicePort | None
    listed: tuple[Workload, ...] = ()
    selects: bool = True
    unit: str = ""
    drained: frozenset[str] = frozenset()

    @property
    def app(self) -> str | None:
        """The only application whose instances can belong to this target; None where any may."""
        return self.labels.get("app") if self.selects else None

    def has(self, workload: Workload) -> bool:
        """Tells whether a workload belongs to this target."""
        return self._takes(workload.labels.get(UNIT_LABEL, "")) and self.labels.items() <= workload.labels.items()

    def has_instance(self, instance: Instance) -> bool:
        """Tells whether an instance belongs to this target and is to be shown to callers.

        An application's name counts as its label `app`. STARTING and OFFLINE instances are not shown.
        """
        state = instance.state
        if not self.selects or not (state is InstanceState.ONLINE or state is InstanceState.DRAINING):
            return False
        if not self._takes(instance.unit):
            return False
        for key, value in self.labels.items():
            if (instance.app if key == "app" else instance.labels.get(key)) != value:
                return False
        return True

    def _takes(self, unit: str) -> bool:
        return unit == self.unit if self.unit else unit not in self.drained


def targets(host: str, configuration: Configuration) -> Iterator[Target]:
    """Yields the targets of `host`, for all units; none for a host that the clients resolve by DNS."""
    entry = configuration.services.get(host)
    if entry and entry.resolution is Resolution.DNS:
        return
    rule = configuration.rules.get(host)
    units = configuration.units.get(host)
    policy = configuration.discovery_of(host)
    listed = entry.workloads if entry else ()
    wanted = selector(host, configuration)
    port = entry.ports[0] if entry else None
    drained = frozenset(units.drained) if units else frozenset()
    for subset, labels in [("", {}), *((each.name, each.labels) for each in (rule.subsets if rule else ()))]:
        for unit in ("", *(units.units if units else ())):  # drained ones too, see `units.unit_parts`
            name = cluster_name(host, subset, unit)
            carried = labels if listed else _joined(wanted, labels)
            found = Target(name, carried, port, listed, not listed, unit, frozenset() if unit else drained)
            yield found
            if policy and policy.interface:
                yield replace(found, name=by_interface(name), labels={**carried, "app": policy.interface})


def selector(host: str, configuration: Configuration) -> Mapping[str, str]:
    """Returns the labels of the workloads and instances of a host that lists none itself."""
    entry = configuration.services.get(host)
    policy = configuration.discovery_of(host)
    if policy and policy.app:
        return {**(entry.selector or {}), "app": policy.app} if entry else {"app": policy.app}
    return entry.selector if entry and entry.selector is not None else {"app": host}


def application(host: str, configuration: Configuration) -> str | None:
    """Returns the application whose instances a host is made of; None where it lists its endpoints, or any may be."""
    entry = configuration.services.get(host)
    if entry and (entry.workloads or entry.resolution is Resolution.DNS):
        return None
    return selector(host, configuration).get("app")


def _joined(selector: Mapping[str, str], labels: Mapping[str, str]) -> Mapping[str, str]:
    """Returns labels that a member of both carries. Contradicting ones name a member that cannot be."""
    if any(key in selector and selector[key] != value for key, value in labels.items()):
        return {**selector, **labels, "": "no workload has a label without a name"}
    return {**selector, **labels}
