"""ShimSet from YAML. Called by `documents`; two with one selector are found by `steering_conflicts`."""

from __future__ import annotations

import re
from dataclasses import replace

from controlplane.config.fields import Field, Record
from controlplane.model.identity import ResourceId
from controlplane.model.shims import Share, ShimSet

# What a shim takes: the form of `meshsdk.shim.upgrade.versions`. Anything else would fail at the first shim.
_VERSION = re.compile(r"\d{1,4}\.\d{1,4}\.\d{1,4}(\.post\d{1,4})?")
_IMAGE = re.compile(r"(?=.{3,512}$)[a-z0-9][A-Za-z0-9./_:-]*:(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})")
_PERCENT = re.compile(r"(\d{1,3}(?:\.\d{1,2})?)%")
_ALL = 100.0
_MOST_SHIMS = 1_000_000
_MIN_TIMEOUT = 1.0  # seconds


def share(field: Field) -> Share:
    """Reads a number of shims, or a percentage of all such as `20%`."""
    if field.node.kind == "number":
        return Share(number=field.integer(0, _MOST_SHIMS))
    found = _PERCENT.fullmatch(field.node.text) if field.node.kind == "string" else None
    if found is None or float(found[1]) > _ALL:
        field.refuse("expected a number of shims, or 0% to 100% of them")
    return Share(percent=float(found[1]))


def shim_set(spec: Field, identity: ResourceId) -> ShimSet:
    """Reads a ShimSet's spec. Raises FieldRefused."""
    record = spec.record(("selector", "version", "image", "updateStrategy", "failurePolicy"))
    strategy = record.read("updateStrategy", lambda item: item.record(("partition", "maxUnavailable", "paused")))
    policy = record.read("failurePolicy", lambda item: item.record(("maxFailurePercentage", "rollback", "timeout")))
    found = ShimSet(
        id=identity,
        selector=_selector(record.require("selector")),
        version=_version(spec, record),
        partition=(strategy and strategy.read("partition", share)) or Share(number=0),
        max_unavailable=(strategy and strategy.read("maxUnavailable", _some)) or Share(number=1),
        paused=bool(strategy and strategy.read("paused", Field.boolean)),
        origin=spec.origin,
    )
    return _with_policy(found, policy) if policy else found


def _with_policy(found: ShimSet, policy: Record) -> ShimSet:
    failures = policy.read("maxFailurePercentage", lambda item: item.number(0, 100))
    rollback, timeout = policy.read("rollback", Field.boolean), policy.read("timeout", _timeout)
    return replace(
        found,
        max_failures=found.max_failures if failures is None else failures,
        rollback=found.rollback if rollback is None else rollback,
        timeout=found.timeout if timeout is None else timeout,
    )


def _selector(field: Field) -> dict[str, str]:
    labels = field.record(("matchLabels",)).require("matchLabels")
    found = labels.labels()
    if not found:
        labels.refuse("must not be empty: name the shims by at least one label, such as app")
    return found


def _version(spec: Field, record: Record) -> str:
    chosen = record.one_of(("version", "image"))
    if chosen is None:
        spec.refuse("expected version, or image with the version as its tag")
    if chosen.path.endswith("version"):
        return chosen.matching(_VERSION, "a version such as 1.40.1")
    image = _IMAGE.fullmatch(chosen.text())
    if image is None or not _VERSION.fullmatch(image["tag"]):
        chosen.refuse(f"{chosen.node.text!r} is not an image whose tag is a version, such as registry/shim:1.40.1")
    return image["tag"]


def _some(field: Field) -> Share:
    found = share(field)
    if found in {Share(number=0), Share(percent=0.0)}:
        field.refuse("must be more than 0: no shim could ever be upgraded; to hold the rollout, say paused: true")
    return found


def _timeout(field: Field) -> float:
    return field.duration(_MIN_TIMEOUT)
