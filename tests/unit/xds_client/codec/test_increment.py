"""EDS, decoded by what changed: the same result as a full decode, whatever the edit, at the cost of the edit."""

from __future__ import annotations

import copy

import pytest
from envoy.config.endpoint.v3 import endpoint_components_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from meshsdk.errors import InvalidResource
from meshsdk.model.endpoints import Endpoint
from meshsdk.model.resources import ClusterEndpoints, Kind
from meshsdk.xds_client.codec import decode, endpoints, localities
from meshsdk.xds_client.codec.increment import Span, common_prefix, common_suffix
from tests.unit.xds_client.codec.messages import Json, assignment, endpoint, locality, serialised

MANY = 300  # endpoints: several blocks


def full(raw: bytes) -> ClusterEndpoints:
    """Decodes without an earlier version."""
    _, resource = decode(Kind.ENDPOINTS, raw)
    assert isinstance(resource, ClusterEndpoints)
    return resource


def step(raw: bytes, before: ClusterEndpoints, before_raw: bytes) -> ClusterEndpoints:
    """Decodes with an earlier version."""
    _, resource = decode(Kind.ENDPOINTS, raw, before, before_raw)
    assert isinstance(resource, ClusterEndpoints)
    return resource


def content(resource: ClusterEndpoints) -> object:
    """Returns everything that counts in a resource; the order within an EndpointMap does not."""
    places = [
        (one.locality, one.priority, one.weight, len(one.endpoints), {e.address: e for e in one.endpoints})
        for one in resource.localities
    ]
    return resource.name, places, resource.drops, resource.overprovisioning, resource.ignored


def fleet(zone: str = "a", count: int = MANY, **fields: int) -> Json:
    """Returns a locality of `count` endpoints whose addresses tell the zone."""
    return locality(*(endpoint(f"10.{ord(zone)}.{i // 250}.{i % 250}") for i in range(count)), zone=zone, **fields)


class Counted:
    """Counts the endpoints that are parsed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.parsed = 0
        real = localities.endpoint

        def counting(*arguments: object) -> Endpoint:
            self.parsed += 1
            return real(*arguments)

        monkeypatch.setattr(localities, "endpoint", counting)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    """Returns a counter of parsed endpoints."""
    return Counted(monkeypatch)


@pytest.mark.parametrize("index", [0, 63, 64, 150, MANY - 1])
@pytest.mark.parametrize("edit", ["change", "grow", "insert", "delete"])
def test_one_endpoint_costs_one_endpoint(counted: Counted, index: int, edit: str) -> None:
    """Changing, inserting or deleting one of many endpoints parses a handful of endpoints, and the result is right."""
    old = [fleet("a"), fleet("b"), fleet("c")]
    new = copy.deepcopy(old)
    members = new[1]["lb_endpoints"]
    if edit == "insert":
        members.insert(index, endpoint("10.0.0.1"))
    elif edit == "delete":
        del members[index]
    else:
        members[index]["load_balancing_weight" if edit == "grow" else "health_status"] = 3
    raw, previous_raw = assignment(*new), assignment(*old)
    previous = full(previous_raw)
    counted.parsed = 0
    found = step(raw, previous, previous_raw)
    assert counted.parsed <= 4
    assert content(found) == content(full(raw))
    assert found.localities[0] is previous.localities[0]
    assert found.localities[2] is previous.localities[2]


def test_chain_of_updates(counted: Counted) -> None:
    """The result of one step is the start of the next, and each step stays cheap."""
    places = [fleet("a")]
    raw = assignment(*places)
    found = full(raw)
    for i in range(100):
        members = places[0]["lb_endpoints"]
        members.insert((i * 37) % len(members), endpoint(f"10.0.1.{i}"))
        if i % 2:
            del members[(i * 53) % len(members)]
        before, before_raw, raw = found, raw, assignment(*places)
        counted.parsed = 0
        found = step(raw, before, before_raw)
        assert counted.parsed <= 4
    assert content(found) == content(full(raw))


def test_changes_far_apart(counted: Counted) -> None:
    """Changes at both ends of a locality parse what changed, not what lies between."""
    old = assignment(fleet("a"))
    place = fleet("a")
    place["lb_endpoints"][3]["load_balancing_weight"] = 9
    place["lb_endpoints"][MANY - 3]["load_balancing_weight"] = 9
    raw = assignment(place)
    before = full(old)
    counted.parsed = 0
    found = step(raw, before, old)
    assert counted.parsed == 4
    assert content(found) == content(full(raw))


def test_another_order(counted: Counted) -> None:
    """A server that sends the same endpoints in another order causes no work and no news for the balancer."""
    old = assignment(fleet("a"))
    place = fleet("a")
    place["lb_endpoints"].reverse()
    before = full(old)
    counted.parsed = 0
    found = step(assignment(place), before, old)
    assert counted.parsed == 0
    assert found.localities[0] is before.localities[0]


def test_weights_are_summed_anew(counted: Counted) -> None:
    """Weights that leave make room for weights that come, however often they change."""
    places = [fleet("a")]
    raw = assignment(*places)
    found = full(raw)
    for i in range(5):
        places[0]["lb_endpoints"][7]["load_balancing_weight"] = 3_000_000_000 + i
        before, before_raw, raw = found, raw, assignment(*places)
        counted.parsed = 0
        found = step(raw, before, before_raw)
        assert counted.parsed == 2
    assert content(found) == content(full(raw))


def test_ignored_fields_come_and_go(counted: Counted) -> None:
    """What is listed as ignored follows the endpoints that set it, the last one included."""
    plain, named = fleet("a"), fleet("a")
    named["lb_endpoints"][5]["endpoint"]["hostname"] = "orders.local"
    old, raw = assignment(plain), assignment(named)
    before = full(old)
    counted.parsed = 0
    found = step(raw, before, old)
    assert found.ignored == ("endpoints.lb_endpoints.endpoint.hostname",)
    assert step(old, found, raw).ignored == ()
    assert counted.parsed == 4


def test_other_field_between_endpoints() -> None:
    """A field that is no endpoint and comes in among endpoints is not overlooked."""
    inner = b"".join(b"\x12" + bytes([len(one)]) + one for one in (raw_endpoint(i) for i in range(5)))
    start, end = b"\x0a\x00", b"\x1a\x02\x08\x01"  # locality {}, load_balancing_weight 1
    priority = b"\x28\x01"
    at = len(inner) // 5 * 2
    old = around(start + inner + end)
    raw = around(start + inner[:at] + priority + inner[at:] + end)
    words = "ClusterLoadAssignment 'orders': endpoints: priority 0 has no locality with weight, while 1 has"
    assert verdict(raw, None, b"") == words
    assert verdict(raw, full(old), old) == words


def raw_endpoint(number: int) -> bytes:
    """Returns a serialised LbEndpoint."""
    return serialised(endpoint_components_pb2.LbEndpoint, endpoint(f"10.0.0.{number}"))


def around(place: bytes) -> bytes:
    """Returns a serialised ClusterLoadAssignment with one serialised locality of up to 16 kB."""
    return assignment() + b"\x12" + bytes([len(place) & 127 | 128, len(place) >> 7]) + place


def test_equal_bytes_are_the_same_object(counted: Counted) -> None:
    """A resource that comes again unchanged is the resource in force, and nothing is parsed."""
    raw = assignment(fleet("a"), locality(endpoint(), zone="w", weight=0))
    before = full(raw)
    counted.parsed = 0
    assert step(bytes(bytearray(raw)), before, raw) is before
    assert counted.parsed == 0


def test_settings_change_alone(counted: Counted) -> None:
    """New drops beside the same endpoints parse no endpoint."""
    old = assignment(fleet("a"))
    before = full(old)
    counted.parsed = 0
    policy = {"drop_overloads": [{"category": "lb", "drop_percentage": {"numerator": 5}}]}
    found = step(assignment(fleet("a"), policy=policy), before, old)
    assert counted.parsed == 0
    assert found.drops
    assert found.localities[0] is before.localities[0]


def test_locality_weight_change_decodes_that_locality(counted: Counted) -> None:
    """A change beside the endpoints of one locality leaves the other localities as they are."""
    old = assignment(fleet("a", 10), fleet("b"))
    before = full(old)
    counted.parsed = 0
    raw = assignment(fleet("a", 10, weight=9), fleet("b"))
    found = step(raw, before, old)
    assert counted.parsed == 10
    assert content(found) == content(full(raw))


@pytest.mark.parametrize(
    ("new", "words"),
    [
        ([fleet("a"), locality(endpoint(), endpoint(), zone="b")], "endpoints[1].lb_endpoints[1]: the address "),
        (
            [locality(*fleet("a")["lb_endpoints"], endpoint("10.97.0.7"))],
            "endpoints[0].lb_endpoints[300]: the address ",
        ),
        ([fleet("a"), locality(endpoint("10.97.0.7"), zone="b")], "endpoints: the address '10.97.0.7:80' is in two"),
        ([locality(*fleet("a")["lb_endpoints"], endpoint("x"))], "endpoints[0].lb_endpoints[300].endpoint.address.so"),
        (
            [locality(*fleet("a")["lb_endpoints"], endpoint(load_balancing_weight=2**32 - 1))],
            "endpoints[0].lb_endpoints: the sum of the weights is 4294967595",
        ),
    ],
)
def test_bad_update_is_refused_in_the_same_words(new: list[Json], words: str) -> None:
    """What a full decode refuses, a step refuses, with the index in the whole resource."""
    old = assignment(fleet("a"))
    raw = assignment(*new)
    with pytest.raises(InvalidResource) as whole:
        full(raw)
    with pytest.raises(InvalidResource) as partial:
        step(raw, full(old), old)
    assert str(partial.value) == str(whole.value)
    assert str(partial.value).startswith(f"ClusterLoadAssignment 'orders': {words}")


def test_many_duplicates_are_refused_in_the_same_words() -> None:
    """Of several addresses in two localities, the text names the same one however the resource was decoded."""
    old = assignment(fleet("a"), fleet("b"))
    place = locality(*fleet("b")["lb_endpoints"], *fleet("a")["lb_endpoints"][5:15], zone="b")
    raw = assignment(fleet("a"), place)
    text = "ClusterLoadAssignment 'orders': endpoints: the address '10.97.0.10:80' is in two localities"
    assert verdict(raw, None, b"") == text
    assert verdict(raw, full(old), old) == text


def test_endpoint_moves_between_localities() -> None:
    """An endpoint that leaves one locality and enters another in one update is no duplicate."""
    old = assignment(fleet("a"), fleet("b"))
    places = [fleet("a"), fleet("b")]
    places[1]["lb_endpoints"].insert(100, places[0]["lb_endpoints"].pop(7))
    raw = assignment(*places)
    assert content(step(raw, full(old), old)) == content(full(raw))


def test_bytes_of_an_endpoint_inside_an_endpoint() -> None:
    """An endpoint whose text holds what looks like other endpoints misleads nobody."""
    inner = assignment(locality(endpoint("10.0.0.9"), endpoint("10.0.0.8")))
    looks = inner[inner.index(b"\x12") :].decode("latin-1")
    disguised = endpoint("10.0.0.2", metadata={"filter_metadata": {"envoy.lb": {"hash_key": looks}}})
    places = [endpoint("10.0.0.1"), endpoint("10.0.0.9"), endpoint("10.0.0.8"), endpoint("10.0.0.3")]
    old = assignment(locality(*places))
    raw = assignment(locality(places[0], disguised, places[3]))
    assert content(step(raw, full(old), old)) == content(full(raw))
    assert content(step(old, full(raw), raw)) == content(full(old))


def test_unfit_earlier_version() -> None:
    """Earlier bytes that are not those of the earlier resource lead to a full decode, not to a crash."""
    old = assignment(fleet("a"))
    raw = assignment(fleet("a", 200))
    assert content(step(raw, full(old), raw[:-3])) == content(full(raw))
    assert content(step(raw, full(old), b"")) == content(full(raw))


members = st.lists(
    st.builds(
        endpoint,
        st.integers(0, 40).map("10.0.0.{}".format),
        load_balancing_weight=st.sampled_from([1, 2, 300]),
        health_status=st.sampled_from(["UNKNOWN", "DRAINING"]),
        metadata=st.sampled_from(
            [
                {},
                {"filter_metadata": {"meshsdk": {"started_at": 5}}},
                {"filter_metadata": {"x": {"y": "10.0.0.1"}}},
            ]
        ),
    ),
    max_size=12,
)
places = st.lists(
    st.builds(
        lambda found, zone, weight, priority: locality(*found, zone=zone, weight=weight, priority=priority),
        members,
        st.sampled_from("ab"),
        st.sampled_from([0, 1, 2]),
        st.sampled_from([0, 0, 1]),
    ),
    max_size=3,
)


@st.composite
def edited(draw: st.DrawFn) -> tuple[list[Json], list[Json]]:
    """Returns two versions of a resource's localities, the second an edit of the first."""
    old = draw(places)
    new = copy.deepcopy(old)
    for _ in range(draw(st.integers(0, 3))):
        if not new or draw(st.integers(0, 9)) == 0:
            new = draw(places)
            continue
        target = draw(st.sampled_from(new))["lb_endpoints"]
        start = draw(st.integers(0, len(target)))
        end = draw(st.integers(start, min(len(target), start + 3)))
        target[start:end] = draw(members)[:3]
    return old, new


def verdict(raw: bytes, before: ClusterEndpoints | None, before_raw: bytes) -> ClusterEndpoints | str:
    """Returns the resource, or the text of the NACK."""
    try:
        _, resource = decode(Kind.ENDPOINTS, raw, before, before_raw)
    except InvalidResource as error:
        return str(error)
    assert isinstance(resource, ClusterEndpoints)
    return resource


@settings(max_examples=400, deadline=None)
@given(edited(), st.sampled_from([1, 2, 64]))
def test_step_equals_full_decode(versions: tuple[list[Json], list[Json]], block: int) -> None:
    """For any two versions, the step from one to the other accepts, refuses and yields what a full decode does."""
    old, new = (assignment(*version) for version in versions)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(localities, "BLOCK", block)
        patch.setattr("meshsdk.xds_client.codec.increment.BLOCK", block)
        before = verdict(old, None, b"")
        if isinstance(before, str):
            return
        expected = verdict(new, None, b"")
        found = verdict(new, before, old)
        if isinstance(expected, str) or isinstance(found, str):
            assert found == expected
            return
        assert content(found) == content(expected)
        assert content(step(old, found, new)) == content(before)


@given(st.binary(max_size=40), st.binary(max_size=40), st.binary(max_size=40), st.binary(max_size=40))
def test_common_ends(head: bytes, one: bytes, other: bytes, tail: bytes) -> None:
    """The common prefix and suffix are found exactly, and do not overlap."""
    a, b = head + one + tail, head + other + tail
    first, second = Span(b"x" + a + b"yy", 1, 1 + len(a)), Span(b + b"z", 0, len(b))
    prefix = common_prefix(first, second)
    suffix = common_suffix(first, second, prefix)
    shorter = min(len(a), len(b))
    assert a[:prefix] == b[:prefix]
    assert prefix == shorter or a[prefix] != b[prefix]
    assert suffix == 0 or a[-suffix:] == b[-suffix:]
    assert prefix + suffix <= shorter
    assert prefix + suffix == shorter or a[len(a) - suffix - 1] != b[len(b) - suffix - 1]


def test_layout_is_not_part_of_the_value() -> None:
    """What the codec notes for itself does not make two equal resources differ."""
    raw = assignment(locality(endpoint()))
    assert full(raw) == endpoints.decode(raw)
    assert "layout" not in repr(full(raw))
