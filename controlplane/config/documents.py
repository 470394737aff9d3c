"""Text to resources: the envelope (apiVersion, kind, metadata) and one decoder per kind.

Called by the directory reader, by `meshctl validate` and by the admin interface. One bad document does not hide the
findings in the next. Never looks across resources: that is `references`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from controlplane.config.call_policy import call_policy
from controlplane.config.discovery import discovery_policy
from controlplane.config.fields import Field, Reading
from controlplane.config.problems import FieldRefused, Problem
from controlplane.config.rate_limits import rate_limit
from controlplane.config.rules import destination_rule
from controlplane.config.service import service_entry, workload_entry
from controlplane.config.shims import shim_set
from controlplane.config.switching import traffic_switch
from controlplane.config.traffic import virtual_service
from controlplane.config.tree import Node, YamlDocument, plain, read
from controlplane.config.units import unit_policy
from controlplane.model.configuration import Resource
from controlplane.model.identity import Origin, ResourceId, ResourceKind
from controlplane.model.names import RESOURCE_NAME

# v1beta1 and v1alpha3 are the older names of the same schema.
API_VERSIONS = tuple(f"networking.istio.io/{version}" for version in ("v1", "v1beta1", "v1alpha3"))
OUR_API_VERSION = "meshsdk.io/v1alpha1"
_OURS = frozenset(
    (
        *(ResourceKind.UNIT_POLICY, ResourceKind.DISCOVERY_POLICY, ResourceKind.TRAFFIC_SWITCH),
        *(ResourceKind.SHIM_SET, ResourceKind.CALL_POLICY, ResourceKind.RATE_LIMIT),
    )
)
_DECODERS: dict[ResourceKind, Callable[[Field, ResourceId], Resource]] = {
    ResourceKind.SERVICE_ENTRY: service_entry,
    ResourceKind.WORKLOAD_ENTRY: workload_entry,
    ResourceKind.VIRTUAL_SERVICE: virtual_service,
    ResourceKind.DESTINATION_RULE: destination_rule,
    ResourceKind.UNIT_POLICY: unit_policy,
    ResourceKind.DISCOVERY_POLICY: discovery_policy,
    ResourceKind.TRAFFIC_SWITCH: traffic_switch,
    ResourceKind.SHIM_SET: shim_set,
    ResourceKind.CALL_POLICY: call_policy,
    ResourceKind.RATE_LIMIT: rate_limit,
}
# What `kubectl get -o yaml` adds. It says nothing about the mesh, so it is not worth a warning.
_METADATA = (
    "name", "namespace", "labels", "annotations", "uid", "resourceVersion", "generation", "creationTimestamp",
    "managedFields", "ownerReferences", "finalizers", "selfLink", "deletionTimestamp",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Entry:
    """A resource with the document it was written in. `first_line`: where `text` starts in its file."""

    resource: Resource
    text: str
    file: str
    first_line: int

    @property
    def id(self) -> ResourceId:
        """The resource's identity."""
        return self.resource.id

    def body(self) -> object:
        """Returns the document as JSON-like values."""
        return plain(next(read(self.text, self.file)).root)


@dataclass(frozen=True, slots=True)
class Documents:
    """What one or more texts held. `problems` empty: all of it can be used, as far as each document goes."""

    entries: tuple[Entry, ...] = ()
    problems: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()

    def __add__(self, other: Documents) -> Documents:
        """Returns both together."""
        return join((self, other))


def join(documents: Iterable[Documents]) -> Documents:
    """Returns all together, in one pass however many there are."""
    every = tuple(documents)
    return Documents(
        tuple(entry for each in every for entry in each.entries),
        tuple(problem for each in every for problem in each.problems),
        tuple(warning for each in every for warning in each.warnings),
    )


def _kind(record_kind: Field, version: Field) -> ResourceKind:
    name = record_kind.text()
    ours = version.text() == OUR_API_VERSION
    if not ours and version.text() not in API_VERSIONS:
        known_versions = f"{API_VERSIONS[0]} and {OUR_API_VERSION}"
        version.refuse(f"unknown apiVersion {version.text()!r}; this version reads {known_versions}")
    known = {kind.value: kind for kind in ResourceKind if (kind in _OURS) is ours}
    if name not in known:
        record_kind.refuse(f"unknown kind {name!r} of {version.text()}; known are {', '.join(known)}")
    return known[name]


def _entry(document: YamlDocument, reading: Reading) -> Entry:
    root = Field(reading, document.root, "")
    if document.root.kind != "map":
        root.refuse("expected a resource with apiVersion, kind, metadata and spec")
    # The envelope's version and kind first: a document of another system should be named, not its fields refused.
    version = Field(reading, document.root.entries.get("apiVersion", Node("nothing", document.root.line)), "apiVersion")
    if version.node.kind == "nothing":
        version.refuse("required field is missing")
    named = Field(reading, document.root.entries.get("kind", Node("nothing", document.root.line)), "kind")
    if named.node.kind == "nothing":
        named.refuse("required field is missing")
    kind = _kind(named, version)
    record = root.record(("apiVersion", "kind", "metadata", "spec", "status"))
    metadata = record.require("metadata").record(_METADATA)
    identity = ResourceId(
        kind,
        metadata.read("namespace", lambda item: item.matching(RESOURCE_NAME, "a namespace")) or "default",
        metadata.require("name").matching(RESOURCE_NAME, "a name (lower case letters, digits, - and .)"),
    )
    resource = _DECODERS[kind](record.require("spec"), identity)
    return Entry(resource, document.text, reading.file, document.first_line)


def parse(text: str, file: str, first_line: int = 1) -> Documents:
    """Reads every document of `text`; never raises for what the text holds."""
    entries: list[Entry] = []
    problems: list[Problem] = []
    warnings: list[Problem] = []
    try:
        for document in read(text, file, first_line):
            reading = Reading(file)
            try:
                entries.append(_entry(document, reading))
            except FieldRefused as refused:
                problems.append(refused.problem)
            else:
                warnings.extend(reading.warnings)
    except FieldRefused as refused:
        problems.append(refused.problem)
    return Documents(tuple(entries), tuple(problems), tuple(warnings))


def origin(entry: Entry) -> Origin:
    """Returns where the resource stands, for messages about the whole of it."""
    return Origin(entry.file, entry.first_line)
