"""Checks across resources: dangling references, conflicts, and who wins between files and applied resources."""

from __future__ import annotations

import pytest

from controlplane.config.documents import parse
from controlplane.config.merge import combine, merge
from controlplane.config.problems import ConfigurationRefused

SERVICE = """\
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {name}}}
spec: {{hosts: [{host}], ports: [{{number: 80, name: grpc}}]}}
"""
RULE = """\
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: {name}}}
spec:
  host: {host}
  subsets: [{{name: v1, labels: {{version: v1}}}}]
"""
ROUTES = """\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {name}}}
spec:
  hosts: [{host}]
  http:
  - route:
    - destination: {{{to}}}
"""


def refused(*files: str) -> list[str]:
    """Returns why these files, named a.yaml, b.yaml ..., cannot be used together."""
    documents = [parse(text, f"{chr(97 + index)}.yaml") for index, text in enumerate(files)]
    with pytest.raises(ConfigurationRefused) as caught:
        merge(sum(documents[1:], documents[0]))
    return [str(problem) for problem in caught.value.problems]


def test_unknown_host_with_a_dot_is_dangling() -> None:
    """A host that can be no application's plain name must be a ServiceEntry's."""
    assert refused(ROUTES.format(name="r", host="orders", to="host: orders.shop")) == [
        "a.yaml:8: spec.http[0].route[0].destination: unknown host orders.shop: no ServiceEntry has it"
    ]
    assert refused(RULE.format(name="r", host="orders.shop")) == [
        "a.yaml:5: spec.host: unknown host orders.shop: no ServiceEntry has it"
    ]


def test_unknown_plain_name_may_register_later() -> None:
    """An application's name is accepted with a warning, which goes once the application is registered."""
    accepted = merge(parse(ROUTES.format(name="r", host="orders", to="host: orders"), "a.yaml"))
    assert [str(warning) for warning in accepted.warnings()] == [
        (
            "a.yaml:8: spec.http[0].route[0].destination: no ServiceEntry has the host orders: it is served once an "
            "application registers as orders"
        )
    ]
    assert accepted.warnings({"orders"}) == ()


def test_unknown_subset_is_dangling() -> None:
    """A subset must be in the host's DestinationRule; what that has is said."""
    routes = ROUTES.format(name="r", host="orders", to="host: orders, subset: v2")
    service = SERVICE.format(name="s", host="orders")
    assert refused(routes, service) == [
        "a.yaml:8: spec.http[0].route[0].destination: unknown subset v2: no DestinationRule is for the host orders"
    ]
    assert refused(routes, service, RULE.format(name="d", host="orders")) == [
        (
            "a.yaml:8: spec.http[0].route[0].destination: unknown subset v2 of orders; DestinationRule/d "
            "in c.yaml:5 has: v1"
        )
    ]


def test_port_that_is_not_served_is_refused() -> None:
    """A destination's port must be the one the service is reached at."""
    routes = ROUTES.format(name="r", host="orders", to="host: orders, port: {number: 81}")
    assert refused(routes, SERVICE.format(name="s", host="orders")) == [
        "a.yaml:8: spec.http[0].route[0].destination: port 81 is not served; ServiceEntry/s serves 80"
    ]


@pytest.mark.parametrize("form", [SERVICE, RULE, ROUTES])
def test_two_resources_for_one_host_conflict(form: str) -> None:
    """Two resources of a kind that claim one host are refused, and both files are named."""
    values = {"host": "orders", "to": "host: orders"}
    found = refused(form.format(name="one", **values), form.format(name="two", **values))
    kind = form.split("kind: ")[1].split("\n", maxsplit=1)[0]
    assert found == [
        f"b.yaml:1: conflict: {kind}/two and {kind}/one (in a.yaml:1) are both for the host orders; merge them into one"
    ]


def test_one_resource_defined_twice_is_refused() -> None:
    """The same kind, namespace and name in two files is refused, and both places are named."""
    text = SERVICE.format(name="s", host="orders")
    assert refused(text, text) == ["b.yaml:1: ServiceEntry/s is defined before, in a.yaml:1"]


def test_different_kinds_share_a_name_and_a_host() -> None:
    """A service, its rule and its routes may all be called orders."""
    text = "---\n".join(
        form.format(name="orders", host="orders", to="host: orders, subset: v1") for form in (SERVICE, RULE, ROUTES)
    )
    accepted = merge(parse(text, "a.yaml"))
    assert len(accepted.entries) == 3
    assert accepted.warnings() == ()


def test_problems_within_documents_come_alone() -> None:
    """While a document cannot be read, references to it are not called dangling."""
    broken = RULE.format(name="d", host="orders").replace("subsets", "subset")
    found = refused(broken, ROUTES.format(name="r", host="orders", to="host: orders, subset: v1"))
    assert found == ["a.yaml:6: spec.subset: unknown field, did you mean subsets?"]


def test_files_win_over_applied_resources() -> None:
    """A file hides an applied resource of the same identity, which is reported."""
    files = parse(SERVICE.format(name="s", host="orders"), "a.yaml")
    applied = parse(SERVICE.format(name="s", host="other"), "b.yaml")
    accepted = combine([files, applied])
    assert list(accepted.configuration.services) == ["orders"]
    assert [str(warning) for warning in accepted.warnings()] == [
        "a.yaml:1: ServiceEntry/s hides the one that was applied; delete it or change the file"
    ]
