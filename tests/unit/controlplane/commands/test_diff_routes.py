"""`meshctl diff-routes`: recorded calls under two configurations, decided by the SDK's own code."""

from __future__ import annotations

import json

import pytest

from controlplane.cli import main
from controlplane.commands import diff_routes

SERVICE = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: orders}
spec:
  hosts: [orders]
  ports: [{number: 80, name: grpc, protocol: GRPC}]
  resolution: STATIC
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: orders}
spec:
  host: orders
  subsets:
  - {name: v1, labels: {version: v1}}
  - {name: v2, labels: {version: v2}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: orders}
spec:
  hosts: [orders]
  http:
"""
OLD = f"""{SERVICE}
  - route: [{{destination: {{host: orders, subset: v1}}}}]
"""
NEW = f"""{SERVICE}
  - match: [{{headers: {{tier: {{exact: gold}}}}}}, {{params: {{user.tier: {{exact: gold}}}}}}]
    route: [{{destination: {{host: orders, subset: v2}}}}]
  - match: [{{sourceLabels: {{app: batch}}}}]
    route: [{{destination: {{host: orders, subset: v2}}}}]
  - match: [{{uri: {{prefix: /shop.Orders/}}}}]
    route:
    - {{destination: {{host: orders, subset: v1}}, weight: 90}}
    - {{destination: {{host: orders, subset: v2}}, weight: 10}}
"""


@pytest.fixture
def compare(tmp_path, capsys):
    """Runs the command on lines of traffic; returns its exit code and output."""
    (tmp_path / "old.yaml").write_text(OLD)
    (tmp_path / "new.yaml").write_text(NEW)

    def run(*lines, new="new.yaml", form="json"):
        traffic = tmp_path / "traffic.jsonl"
        traffic.write_text("\n".join(one if isinstance(one, str) else json.dumps(one) for one in lines))
        code = main(["diff-routes", str(tmp_path / "old.yaml"), str(tmp_path / new), str(traffic), "-o", form])
        return code, capsys.readouterr()

    return run


def call(method="/shop.Orders/Get", **facts):
    """A line of traffic."""
    return {"target": "xds:///orders", "method": method, **facts}


def changes(printed):
    """What the command printed as JSON: the changes by what comes after."""
    return {one["after"]: (one["calls"], one["before"]) for one in json.loads(printed.out)["changes"]}


def test_metadata_fields_and_callers(compare):
    """Each kind of condition sends its calls elsewhere; weights are shares; what nothing takes fails."""
    code, printed = compare(
        call(metadata={"Tier": "gold"}, count=5),
        call("/shop.Orders/Put", fields={"user.tier": "gold"}),
        call("/shop.Orders/List", app="batch"),
        call(count=100),
        call("/shop.Carts/Get"),
    )
    assert code == 0
    found = json.loads(printed.out)
    assert (found["calls"], found["changed"]) == (108, 108)
    assert changes(printed) == {
        "orders|v1 90 %, orders|v2 10 %": (100, "orders|v1"),
        "orders|v2": (1, "orders|v1"),
        "fails: no route matches /shop.Carts/Get": (1, "orders|v1"),
    }
    assert [one["calls"] for one in found["changes"]] == [100, 5, 1, 1, 1], "the most frequent change comes first"


@pytest.mark.parametrize("target", ["mesh:///orders", "xds://other/orders", "dns:///orders", "10.0.0.1:80/x"])
def test_targets_of_others(compare, target):
    """Calls that this control plane does not route are counted apart, whatever their names."""
    code, printed = compare({**call(count=4), "target": target}, call(), form="table")
    assert code == 0
    assert printed.out.startswith("1 calls, 1 would go elsewhere; 4 to targets that are not of this control plane")


def test_labels_that_nobody_asks_for(compare, monkeypatch):
    """Calls that differ in labels and applications which no rule names are decided once."""
    made = []
    real = diff_routes.route_configuration
    monkeypatch.setattr(diff_routes, "route_configuration", lambda *given: made.append(given) or real(*given))
    compare(*[call(app=f"a{n}", labels={"pod": f"p{n}"}) for n in range(20)], call(app="batch"))
    assert len(made) == 3, "the old one once, the new one for batch and for all others"


def test_equal_configurations(compare):
    """Nothing would go elsewhere under the same configuration."""
    code, printed = compare(call(count=7), new="old.yaml", form="table")
    assert (code, printed.out) == (0, "7 calls, 0 would go elsewhere\n")


def test_a_service_that_goes(compare, tmp_path):
    """Calls to a service that the new configuration does not have fail."""
    (tmp_path / "none.yaml").write_text("")
    _, printed = compare(call(), new="none.yaml", form="table")
    assert "fails: no routes for 'orders'" in printed.out


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", ":2: not JSON"),
        ("[]", ":2: not an object"),
        ({"target": "orders"}, ":2: needs a target"),
        (call(metadata={"a": 1}), ":2: metadata.a: expected a text"),
        (call(fields={"a": {}}), ":2: fields.a: expected a text, a number"),
        (call(count=0), ":2: count: expected a number"),
        (call(labels=[]), ":2: labels: expected an object"),
        (call(app="x" * 70_000), ":2: longer than 65536 bytes"),
    ],
)
def test_lines_that_are_no_calls(compare, line, words):
    """One clear line names the file, the line and what is wrong with it."""
    code, printed = compare(call(), line)
    assert code == 1
    assert words in printed.err
    assert printed.err.count("\n") == 1


def test_a_configuration_that_cannot_be_read(compare, tmp_path):
    """Findings of the configuration are told as `validate` tells them."""
    (tmp_path / "bad.yaml").write_text(NEW.replace("weight: 90", "weight: many"))
    code, printed = compare(call(), new="bad.yaml")
    assert code == 1
    assert "bad.yaml:" in printed.err
