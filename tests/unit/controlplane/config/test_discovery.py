"""DiscoveryPolicy: what is read, and what is refused word for word."""

from __future__ import annotations

import pytest

from controlplane.config.documents import parse
from controlplane.config.merge import merge
from controlplane.config.problems import ConfigurationRefused
from controlplane.model.discovery import Consumer, DiscoveryPolicy, EndpointsFrom
from meshsdk.model.migration import Migration

HEAD = """\
apiVersion: meshsdk.io/v1alpha1
kind: DiscoveryPolicy
metadata: {name: orders}
spec:
"""  # the spec starts on line 5
PLAIN = "  hosts: [orders]\n  endpoints: REGISTRY\n"
ENTRY = """\
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: orders}
spec:
  hosts: [orders]
  ports: [{number: 80, name: grpc}]
"""


def test_everything_is_read() -> None:
    """Registry, application, interface, migration and the consumers' own settings become values."""
    text = """\
  hosts: [orders]
  registry: main
  endpoints: REGISTRY
  app: orders-v2
  interface: shop.Orders
  migration: FORCE_INTERFACE
  consumers:
  - {sourceLabels: {app: web}, migration: FORCE_APPLICATION}
  - {sourceLabels: {app: old}, endpoints: CONTROL_PLANE}
"""
    (entry,) = parse(HEAD + text, "f.yaml").entries
    assert entry.resource == DiscoveryPolicy(
        entry.id,
        ("orders",),
        EndpointsFrom.REGISTRY,
        "main",
        "orders-v2",
        "shop.Orders",
        Migration.FORCE_INTERFACE,
        (
            Consumer({"app": "web"}, None, Migration.FORCE_APPLICATION),
            Consumer({"app": "old"}, EndpointsFrom.CONTROL_PLANE),
        ),
    )


def test_defaults() -> None:
    """Without more words it is the client's registry `default`, and applications before interfaces."""
    (entry,) = parse(HEAD + PLAIN, "f.yaml").entries
    policy = entry.resource
    assert isinstance(policy, DiscoveryPolicy)
    assert (policy.registry, policy.app, policy.interface) == ("default", "", "")
    assert policy.migration is Migration.APPLICATION_FIRST


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("  hosts: [orders]\n", "5: spec.endpoints: required field is missing"),
        ("  endpoints: REGISTRY\n", "5: spec.hosts: required field is missing"),
        (
            "  hosts: [orders]\n  endpoints: EDS\n",
            "6: spec.endpoints: expected one of REGISTRY, CONTROL_PLANE, got 'EDS'",
        ),
        ("  hosts: ['*', a]\n  endpoints: REGISTRY\n", '5: spec.hosts: "*" is every host, so it stands alone'),
        ("  hosts: [a, a]\n  endpoints: REGISTRY\n", "5: spec.hosts[1]: a is listed twice"),
        ("  hosts: [a, b]\n  endpoints: REGISTRY\n  app: c\n", "7: spec.app: needs a policy for one host only"),
        (
            "  hosts: ['*']\n  endpoints: REGISTRY\n  interface: a.B\n",
            "7: spec.interface: needs a policy for one host only",
        ),
        (PLAIN + "  app: 'a/b'\n", "7: spec.app: 'a/b' is not the name of an application"),
        (
            PLAIN + "  interface: a/B\n",
            "7: spec.interface: 'a/B' is not the name of a gRPC service such as shop.Orders",
        ),
        (
            PLAIN + "  migration: FORCE_INTERFACE\n",
            "7: spec.migration: needs interface: without it there is nothing to migrate from",
        ),
        (
            PLAIN + "  interface: a.B\n  migration: SLOWLY\n",
            "8: spec.migration: expected one of FORCE_INTERFACE, APPLICATION_FIRST, FORCE_APPLICATION, got 'SLOWLY'",
        ),
        (
            PLAIN + "  consumers: [{endpoints: REGISTRY}]\n",
            "7: spec.consumers[0].sourceLabels: required field is missing",
        ),
        (
            PLAIN + "  consumers: [{sourceLabels: {}, endpoints: REGISTRY}]\n",
            (
                "7: spec.consumers[0].sourceLabels: must not be empty: it would be every caller, which is what spec "
                "itself speaks of"
            ),
        ),
        (
            PLAIN + "  consumers: [{sourceLabels: {a: b}}]\n",
            "7: spec.consumers[0]: expected endpoints, migration or both",
        ),
        (
            PLAIN + "  consumers: [{sourceLabels: {a: b}, migration: FORCE_INTERFACE}]\n",
            "7: spec.consumers[0].migration: needs spec.interface: without it there is nothing to migrate from",
        ),
        (PLAIN + "  registries: main\n", "7: spec.registries: unknown field, did you mean registry?"),
    ],
)
def test_refusals(spec: str, expected: str) -> None:
    """What is wrong is said with its line and path."""
    assert [str(problem) for problem in parse(HEAD + spec, "f.yaml").problems] == [f"f.yaml:{expected}"]


@pytest.mark.parametrize(
    ("spec", "entry", "expected"),
    [
        (
            PLAIN.replace("orders", "orders.shop"),
            "",
            "5: spec.hosts: unknown host orders.shop: no ServiceEntry has it",
        ),
        (
            PLAIN,
            ENTRY + "  resolution: DNS\n",
            (
                "5: spec.hosts: orders is not discovered in a registry: ServiceEntry/orders in f.yaml:12 is resolved "
                "by DNS"
            ),
        ),
        (
            PLAIN,
            ENTRY + "  resolution: STATIC\n  endpoints: [{address: 10.0.0.1}]\n",
            (
                "5: spec.hosts: orders is not discovered in a registry: ServiceEntry/orders in f.yaml:12 lists its "
                "endpoints"
            ),
        ),
        (
            PLAIN + "  app: b\n",
            ENTRY + "  workloadSelector: {labels: {app: a}}\n",
            "5: spec.app: ServiceEntry/orders in f.yaml:13 selects the application a, not b",
        ),
        (
            PLAIN,
            ENTRY + "  workloadSelector: {labels: {tier: a}}\n",
            "5: spec.hosts: ServiceEntry/orders in f.yaml:12 selects instances of any application; give spec.app",
        ),
        (
            PLAIN,
            "---\n" + HEAD.replace("name: orders", "name: other") + PLAIN,
            (
                "8: conflict: DiscoveryPolicy/other and DiscoveryPolicy/orders (in f.yaml:1) are both for the host "
                "orders; merge them into one"
            ),
        ),
    ],
)
def test_beside_other_resources(spec: str, entry: str, expected: str) -> None:
    """A policy that cannot be done beside the host's ServiceEntry, or beside another policy, is refused."""
    with pytest.raises(ConfigurationRefused) as refused:
        merge(parse(HEAD + spec + entry, "f.yaml"))
    assert [str(problem) for problem in refused.value.problems] == [f"f.yaml:{expected}"]


def test_every_host_and_one() -> None:
    """The policy of a host counts before that for all; a host that lists its endpoints is simply not concerned."""
    text = HEAD.replace("name: orders", "name: all") + "  hosts: ['*']\n  endpoints: REGISTRY\n---\n" + HEAD + PLAIN
    found = merge(parse(text + ENTRY + "  workloadSelector: {labels: {app: a}}\n", "f.yaml")).configuration
    own, other = found.discovery_of("orders"), found.discovery_of("users")
    assert own is not None
    assert other is not None
    assert (own.id.name, other.id.name) == ("orders", "all")
    assert found.hosts() == {"orders"}
