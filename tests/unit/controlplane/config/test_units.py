"""UnitPolicy: what is read, and what is refused word for word."""

from __future__ import annotations

import pytest

from controlplane.config.documents import parse
from controlplane.config.merge import merge
from controlplane.config.problems import ConfigurationRefused
from controlplane.model.units import Exit, Integers, KeyPlace, KeyRule, KeySource, UnitPolicy, UnitScope, UnitService

HEAD = """\
apiVersion: meshsdk.io/v1alpha1
kind: UnitPolicy
metadata: {name: shop}
spec:
"""  # the spec starts on line 5
UNITS = "  units: [east, west, global]\n"  # line 5
SERVICES = """\
  services:
  - {hosts: [orders, carts], scope: CLOSED}
  - {hosts: [prices], scope: COPIED, central: global}
  - {hosts: [audit], scope: CENTRAL, central: global}
"""  # lines 6 to 9
KEY = """\
  key:
    sources: [{header: X-User}, {field: user.id}, {baggage: user-id}]
    rules:
    - {unit: east, exact: [alice], prefix: [e-]}
    - {unit: west, integers: [{from: 0, to: 49, modulo: 100}, {from: 5000, to: 9999}]}
"""  # lines 10 to 14
REST = """\
    unmapped: REFUSE
  exits:
  - {from: east, to: west, hosts: [carts]}
  - {from: west, to: east}
  drain: {east: west, west: global}
"""  # lines 15 to 19


def refusals(text: str) -> list[str]:
    """Returns what is said about `text`."""
    return [str(problem) for problem in parse(text, "f.yaml").problems]


def warnings(text: str) -> list[str]:
    """Returns what is said about `text` that does not refuse it."""
    return [str(problem) for problem in parse(text, "f.yaml").warnings]


def test_everything_is_read() -> None:
    """Units, services, keys, exits and drains become the values they stand for; a chain of drains is followed."""
    (entry,) = parse(HEAD + UNITS + SERVICES + KEY + REST, "f.yaml").entries
    assert entry.resource == UnitPolicy(
        id=entry.id,
        units=("east", "west", "global"),
        services={
            "orders": UnitService("orders", UnitScope.CLOSED),
            "carts": UnitService("carts", UnitScope.CLOSED),
            "prices": UnitService("prices", UnitScope.COPIED, "global"),
            "audit": UnitService("audit", UnitScope.CENTRAL, "global"),
        },
        sources=(
            KeySource(KeyPlace.HEADER, "x-user"),
            KeySource(KeyPlace.FIELD, "user.id"),
            KeySource(KeyPlace.BAGGAGE, "user-id"),
        ),
        rules=(
            KeyRule("east", exact=("alice",), prefixes=("e-",)),
            KeyRule("west", integers=(Integers(0, 49, 100), Integers(5000, 9999))),
        ),
        refuse_unmapped=True,
        exits=(Exit("east", "west", ("carts",)), Exit("west", "east")),
        drained={"east": "global", "west": "global"},
    )
    assert str(entry.id) == "UnitPolicy/shop"


def key(rules: str, sources: str = "[{header: x}]") -> str:
    """Returns a policy with these rules, which stand on line 9."""
    services = "  services: [{hosts: [orders], scope: CLOSED}]\n"
    return f"{HEAD}{UNITS}{services}  key:\n    sources: {sources}\n    rules: {rules}\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (HEAD + "  units: [a|b]\n", "5: spec.units[0]: 'a|b' is not the name of a unit"),
        (HEAD + "  units: [a, a]\n", "5: spec.units[1]: a is listed twice"),
        (HEAD + UNITS + "  drains: {}\n", "6: spec.drains: unknown field, did you mean drain?"),
        (HEAD + UNITS + SERVICES, "5: spec.key: required field is missing"),
        (
            HEAD + UNITS + "  services: [{hosts: [a, b], scope: CLOSED}, {hosts: [b], scope: CLOSED}]\n",
            "6: spec.services[1].hosts[0]: b was given before",
        ),
        (
            HEAD + UNITS + "  services: [{hosts: [a], scope: OPEN}]\n",
            "6: spec.services[0].scope: expected one of CLOSED, CENTRAL, COPIED, got 'OPEN'",
        ),
        (
            HEAD + UNITS + "  services: [{hosts: [a], scope: COPIED}]\n",
            "6: spec.services[0].central: required field is missing",
        ),
        (
            HEAD + UNITS + "  services: [{hosts: [a], scope: CENTRAL, central: north}]\n",
            "6: spec.services[0].central: unknown unit north; spec.units has east, west, global",
        ),
        (
            HEAD + UNITS + "  services: [{hosts: [a], scope: CLOSED, central: east}]\n",
            ("6: spec.services[0].central: a closed service has its data in every unit; only CENTRAL and COPIED ones "
            "have a central unit"),
        ),
        (key("[{unit: east}]"), "9: spec.key.rules[0]: expected some of exact, prefix, integers"),
        (
            key("[{unit: e, exact: [a]}]"),
            "9: spec.key.rules[0].unit: unknown unit e; spec.units has east, west, global",
        ),
        (
            key("[{unit: east, exact: ['a b']}]"),
            "9: spec.key.rules[0].exact[0]: 'a b' is not printable ASCII without blanks",
        ),
        (
            key("[{unit: east, exact: [7]}]"),
            "9: spec.key.rules[0].exact[0]: expected a string, got the number 7; quote it",
        ),
        (
            key("[{unit: east, integers: [{from: 9, to: 1}]}]"),
            "9: spec.key.rules[0].integers[0].to: expected 9 to 999999999999999999, got 1",
        ),
        (
            key("[{unit: east, integers: [{from: 0, to: 5, modulo: 16}]}]"),
            ("9: spec.key.rules[0].integers[0].modulo: expected 10, 100, 1000 ...: xDS has no test for a remainder but "
            "the last digits"),
        ),
        (
            key("[{unit: east, integers: [{from: 0, to: 100, modulo: 100}]}]"),
            "9: spec.key.rules[0].integers[0].to: expected 0 to 99, got 100",
        ),
        (
            key("\n    - {unit: east, exact: [a]}\n    - {unit: west, exact: [a]}"),
            "11: spec.key.rules[1]: the key a is given to unit east before, on line 10",
        ),
        (
            key("\n    - {unit: east, prefix: [ab]}\n    - {unit: west, prefix: [abc]}"),
            "11: spec.key.rules[1]: the prefix abc is given to unit east before, on line 10",
        ),
        (
            key(
                "\n    - {unit: east, integers: [{from: 0, to: 9}]}"
                "\n    - {unit: west, integers: [{from: 5, to: 20}]}"
            ),
            "11: spec.key.rules[1]: 5 to 9 is given to unit east before, on line 10",
        ),
        (key("[{unit: east, exact: [a]}]", "[{header: x, field: y}]"), ("8: spec.key.sources[0].field: only one of "
         "header, field, baggage may be given")),
        (key("[{unit: east, exact: [a]}]", "[{}]"), "8: spec.key.sources[0]: expected one of header, field, baggage"),
        (
            key("[{unit: east, exact: [a]}]", "[{header: x-bin}]"),
            "8: spec.key.sources[0].header: the value of a -bin key is not text: xDS has no test for it",
        ),
        (
            key("[{unit: east, exact: [a]}]", "[{field: a-b}]"),
            "8: spec.key.sources[0].field: 'a-b' is not a path of proto field names such as user.id",
        ),
        (
            key("[{unit: east, exact: [a]}]", "[{baggage: 'a=b'}]"),
            "8: spec.key.sources[0].baggage: 'a=b' is not the key of a baggage entry",
        ),
        (
            HEAD + UNITS + SERVICES + KEY + "    unmapped: DROP\n",
            "15: spec.key.unmapped: expected one of STAY, REFUSE, got 'DROP'",
        ),
        (
            HEAD + UNITS + SERVICES + KEY + "  exits: [{from: east, to: east}]\n",
            "15: spec.exits[0].to: calls within east need no exit",
        ),
        (
            HEAD + UNITS + SERVICES + KEY + "  exits: [{from: east, to: west, hosts: [prices]}]\n",
            "15: spec.exits[0].hosts[0]: prices is not a closed service of this policy; only those need exits",
        ),
        (
            HEAD + UNITS + SERVICES + KEY + "  drain: {north: east}\n",
            "15: spec.drain[north]: unknown unit north; spec.units has east, west, global",
        ),
        (
            HEAD + UNITS + SERVICES + KEY + "  drain: {east: west, west: east}\n",
            "15: spec.drain[east]: east would be drained into itself",
        ),
        (
            HEAD + UNITS + SERVICES + KEY + "  drain: {east: east}\n",
            "15: spec.drain[east]: east would be drained into itself",
        ),
        (
            HEAD.replace("meshsdk.io/v1alpha1", "networking.istio.io/v1"),
            ("2: kind: unknown kind 'UnitPolicy' of networking.istio.io/v1; known are ServiceEntry, WorkloadEntry, "
            "VirtualService, DestinationRule"),
        ),
    ],
)  # fmt: skip
def test_refusals(text: str, expected: str) -> None:
    """What is wrong is said with its line and path."""
    assert refusals(text) == [f"f.yaml:{expected}"]


def test_a_key_before_its_range_is_an_exception() -> None:
    """One customer of a range may live elsewhere: an exact key or a prefix beside a range is no contradiction."""
    rules = "[{unit: east, exact: ['7']}, {unit: west, integers: [{from: 0, to: 9}]}]"
    assert refusals(key(rules)) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            HEAD + UNITS + "  services: [{hosts: [prices], scope: COPIED, central: global}]\n" + KEY,
            "8: spec.key: has no effect: no service of the policy is CLOSED",
        ),
        (
            HEAD + UNITS + SERVICES + KEY + "  exits: [{from: east, to: global}]\n",
            "15: spec.exits[0]: has no effect: no rule gives a key to unit global",
        ),
    ],
)
def test_warnings(text: str, expected: str) -> None:
    """What has no effect is accepted, and said."""
    assert (refusals(text), warnings(text)) == ([], [f"f.yaml:{expected}"])


# -- beside other resources -------------------------------------------------------------------------------------------

POLICY = HEAD + UNITS + SERVICES + KEY + "---\n"  # 15 lines
ENTRY = "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: o}\nspec:\n  hosts: [orders]\n"
PORTS = "  ports: [{number: 80, name: grpc}]\n"


def wrong(text: str) -> list[str]:
    """Returns why the resources do not fit together."""
    with pytest.raises(ConfigurationRefused) as refused:
        merge(parse(text, "f.yaml"))
    return [str(problem) for problem in refused.value.problems]


def test_hosts_that_are_not_known() -> None:
    """A host with a dot that nobody has is refused at its place; one without may register later."""
    text = POLICY.replace("prices]", "prices.shop]")
    assert wrong(text) == ["f.yaml:8: spec.services[1].hosts[0]: unknown host prices.shop: no ServiceEntry has it"]
    accepted = merge(parse(POLICY, "f.yaml"))
    assert len(accepted.warnings()) == 4
    assert "no ServiceEntry has the host orders" in str(accepted.warnings()[0])
    assert accepted.warnings({"orders", "carts", "prices", "audit"}) == ()


def test_two_policies_for_one_host() -> None:
    """A host lies in the units of one policy only."""
    (problem,) = wrong(POLICY + POLICY.replace("name: shop", "name: other").replace("prices", "p").replace("audit", "a")
                       .replace("carts", "c"))  # fmt: skip
    assert problem.startswith("f.yaml:16: conflict: UnitPolicy/other and UnitPolicy/shop")


def test_hosts_without_units() -> None:
    """A host that DNS resolves, and one whose endpoints tell no unit, cannot be closed to units."""
    assert wrong(POLICY + ENTRY + PORTS + "  resolution: DNS\n") == [
        "f.yaml:7: spec.services[0].hosts[0]: ServiceEntry/o in f.yaml:20 resolves orders by DNS, which knows no units"
    ]
    listed = "  resolution: STATIC\n  endpoints: [{address: 10.0.0.1}]\n"
    assert wrong(POLICY + ENTRY + PORTS + listed) == [
        (
            "f.yaml:7: spec.services[0].hosts[0]: no endpoint of ServiceEntry/o in f.yaml:20 has the label "
            "meshsdk.io/unit: every unit would be empty"
        )
    ]
    merge(parse(POLICY + ENTRY + PORTS + listed.replace("10.0.0.1", "10.0.0.1, labels: {meshsdk.io/unit: east}"), "f"))


RULE = """\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: orders}
spec:
  hosts: [orders]
  http:
  - name: both
    route: [{destination: {host: orders}, weight: 1}, {destination: {host: users}, weight: 1}]
"""


def test_a_rule_over_two_policies() -> None:
    """Calls cannot be split over closed services whose keys are of different policies."""
    other = key("[{unit: east, exact: [a]}]").replace("orders", "users").replace("name: shop", "name: users")
    assert wrong(POLICY + other + "---\n" + RULE) == [
        (
            "f.yaml:32: spec.http[0]: the destinations are closed services of UnitPolicy/shop and UnitPolicy/users, "
            "whose keys may disagree"
        )
    ]


def test_too_many_routes() -> None:
    """Rules times keys is bounded: what a client would have to try for each call is refused in words."""
    keys = ", ".join(f"k{number}" for number in range(900))
    many = key(f"[{{unit: east, exact: [{keys}]}}]")
    route = "route: [{destination: {host: orders}}]"
    rules = "".join(f"  - {{match: [{{uri: {{exact: /a.B/C{number}}}}}], {route}}}\n" for number in range(30))
    (problem,) = wrong(many + "---\n" + RULE[: RULE.index("  - name")] + rules)
    assert "make about 27030 routes; at most 20000 are served" in problem


@pytest.mark.parametrize(
    ("before", "after", "unreachable"),
    [
        ("integers: [{from: 0, to: 9, modulo: 10}]", "exact: ['4711']", "the key 4711"),
        ("integers: [{from: 0, to: 99, modulo: 100}]", "integers: [{from: 0, to: 4, modulo: 10}]", "0 to 4 modulo 10"),
        ("integers: [{from: 0, to: 4, modulo: 10}]", "integers: [{from: 10, to: 14}]", "10 to 14"),
        ("integers: [{from: 5, to: 9}]", "exact: ['007']", "the key 007"),
        ("prefix: [e-]", "exact: [e-1]", "the key e-1"),
        ("integers: [{from: 0, to: 4, modulo: 10}]", "exact: ['4711', '17']", "the key 4711"),
        ("integers: [{from: 0, to: 4, modulo: 10}]", "integers: [{from: 8, to: 12}]", None),
        ("integers: [{from: 0, to: 49, modulo: 100}]", "integers: [{from: 0, to: 4, modulo: 10}]", None),
        ("exact: ['4711']", "integers: [{from: 0, to: 9, modulo: 10}]", None),
    ],
)
def test_keys_that_are_never_reached(before: str, after: str, unreachable: str | None) -> None:
    """What a rule before takes whole is warned about; an exception before a range is meant."""
    text = key(f"\n    - {{unit: east, {before}}}\n    - {{unit: west, {after}}}")
    expected = f"f.yaml:11: spec.key.rules[1]: {unreachable} has no effect: unit east has it before, on line 10"
    assert warnings(text) == ([expected] if unreachable else [])
    assert refusals(text) == []


def test_exit_that_is_given_twice() -> None:
    """An exit that another one covers has no effect."""
    exits = "  exits: [{from: east, to: west}, {from: east, to: west, hosts: [carts]}]\n"
    assert [each for each in warnings(HEAD + UNITS + SERVICES + KEY + exits) if "same calls" in each] == [
        "f.yaml:15: spec.exits[1]: has no effect: the exit on line 15 is for the same calls"
    ]
