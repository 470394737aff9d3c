"""Routes in words, as `meshctl routes` shows them."""

from __future__ import annotations

from controlplane.config.documents import parse
from controlplane.config.merge import merge
from controlplane.translate.describe import route_rows
from tests.unit.controlplane.translate.worked_examples import FOLDER

TEXT = """\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: orders}
spec:
  hosts: [orders]
  http:
  - name: a
    match:
    - name: b
      uri: {exact: /a.B/C}
      headers: {x-a: {prefix: p}}
      withoutHeaders: {x-b: {}, x-c: {exact: c}}
      params: {user.tier: {exact: gold}}
      sourceLabels: {app: web}
    - method: {exact: GET}
    timeout: 2s
    retries: {attempts: 2, retryOn: unavailable}
    route:
    - {destination: {host: orders}, weight: 1}
    - {destination: {host: users}, weight: 3}
  - route: [{destination: {host: users}}]
"""


def test_routes_in_words() -> None:
    """Every condition, destination with its share, timeout and retries is said."""
    rows = list(route_rows("orders", merge(parse(TEXT, "f.yaml")).configuration))
    assert [row["route"] for row in rows] == ["a.b", "a", ""]
    assert rows[0] == {
        "route": "a.b",
        "match": "path = /a.B/C and header x-a prefix p and header x-b is not there and not header x-c exact c and "
        "field user.tier exact gold and caller has app=web",
        "to": "orders 25%, users 75%",
        "units": "",
        "timeout": "2s",
        "retries": "2 on unavailable",
        "from": "f.yaml:9",
    }
    assert [row["from"] for row in rows] == ["f.yaml:9", "f.yaml:15", "f.yaml:21"]
    assert rows[1]["match"] == "never (not a gRPC call)"
    assert (rows[2]["match"], rows[2]["to"]) == ("every call", "users")


def test_default_route_in_words() -> None:
    """A service without a VirtualService has one route, to itself."""
    (row,) = route_rows("users", merge(parse(TEXT, "f.yaml")).configuration)
    assert (row["match"], row["to"], row["from"]) == ("every call", "users", "(default)")


def test_policies_in_words() -> None:
    """Faults, copies, header edits, and every part of a CallPolicy have a line each, with where they stand."""
    text = (FOLDER / "resilience.yaml").read_text()
    rows = list(route_rows("orders", merge(parse(text, "f.yaml")).configuration))
    said = [(row["match"], row["to"]) for row in rows if row["route"] != "(policy)"]
    assert said[1:] == [
        ("fault", "delay 0.25s for 12.5%, abort RESOURCE_EXHAUSTED for 0.1%"),
        ("mirror", "10% to orders|v2"),
        ("mirror", "100% to shadow"),
        (
            "headers",
            ("request: remove x-secret, set x-tried=1, add x-via=mesh; response: remove x-internal, set x-route=tried"),
        ),
        ("headers to orders|v1", "request: set x-version=v1"),
        ("every call", "orders"),
    ]
    policies = [row for row in rows if row["route"] == "(policy)"]
    subjects = [str(row["to"]).partition(":")[0] for row in policies]
    assert subjects == [
        *("local rate limit", "rate limit descriptors", "session affinity", "rate limit", "adaptive concurrency"),
        *("admission control", "retry budget", "outlier detection", "load balancer", "limits of HIGH calls"),
        *("hedging", "priority", "local rate limit", "rate limit descriptors"),
    ]
    hedging = next(row for row in policies if str(row["to"]).startswith("hedging"))
    assert hedging["match"] == "path = /shop.Orders/Get or path = /shop.Orders/List"
    assert hedging["to"] == "hedging: 3 attempts, one every 0.05s; goes on after INTERNAL, UNAVAILABLE"
    assert str(hedging["from"]).startswith("f.yaml:")
