"""Routes in words, as `meshctl routes` shows them."""

from __future__ import annotations

from controlplane.config.documents import parse
from controlplane.config.merge import merge
from controlplane.translate.describe import route_rows

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
