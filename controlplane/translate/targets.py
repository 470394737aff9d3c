"""Which workloads make up each EDS resource: a target is a host or one of its subsets. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from controlplane.model.configuration import Configuration
from controlplane.model.service import Resolution, ServicePort, Workload
from controlplane.translate.names import cluster_name
from meshsdk.model.instance import Instance, InstanceState


@dataclass(frozen=True, slots=True)
class Target:
    """One EDS resource. Its endpoints are `listed`, or the workloads and instances that carry all of `labels`.

    `labels` has the selector's labels and the subset's. `selects` is False where the endpoints are listed.
    """

    name: str
    labels: Mapping[str, str]
    port: ServicePort | None
    listed: tuple[Workload, ...] = ()
    selects: bool = True

    @property
    def app(self) -> str | None:
        """The only application whose instances can belong to this target; None where any may."""
        return self.labels.get("app") if self.selects else None

    def has(self, workload: Workload) -> bool:
        """Tells whether a workload belongs to this target."""
        return self.labels.items() <= workload.labels.items()

    def has_instance(self, instance: Instance) -> bool:
        """Tells whether an instance belongs to this target and is to be shown to callers.

        An application's name counts as its label `app`. STARTING and OFFLINE instances are not shown.
        """
        state = instance.state
        if not self.selects or not (state is InstanceState.ONLINE or state is InstanceState.DRAINING):
            return False
        for key, value in self.labels.items():
            if (instance.app if key == "app" else instance.labels.get(key)) != value:
                return False
        return True


def targets(host: str, configuration: Configuration) -> Iterator[Target]:
    """Yields the targets of `host`; none for a host that the clients resolve by DNS."""
    entry = configuration.services.get(host)
    if entry and entry.resolution is Resolution.DNS:
        return
    rule = configuration.rules.get(host)
    listed = entry.workloads if entry else ()
    selector: Mapping[str, str] = {"app": host}
    if entry and entry.selector is not None:
        selector = entry.selector
    for name, labels in [("", {}), *((subset.name, subset.labels) for subset in (rule.subsets if rule else ()))]:
        yield Target(
            name=cluster_name(host, name),
            labels=labels if listed else _joined(selector, labels),
            port=entry.ports[0] if entry else None,
            listed=listed,
            selects=not listed,
        )


def _joined(selector: Mapping[str, str], labels: Mapping[str, str]) -> Mapping[str, str]:
    """Returns labels that a member of both carries. Contradicting ones name a member that cannot be."""
    if any(key in selector and selector[key] != value for key, value in labels.items()):
        return {**selector, **labels, "": "no workload has a label without a name"}
    return {**selector, **labels}
