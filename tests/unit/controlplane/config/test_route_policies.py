"""Faults, copies, header edits and retries of a VirtualService: what they mean, and what is refused or reported."""

from __future__ import annotations

import pytest

from controlplane.config.documents import Documents, parse
from controlplane.config.merge import merge
from controlplane.config.problems import ConfigurationRefused
from controlplane.model.traffic import Destination, HeaderEdits, HttpRoute, MirrorTo
from meshsdk.model.filters import Fault, HeaderEdit

HEAD = """\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: orders}
spec:
  hosts: [orders]
  http:
"""  # 6 lines


def read(text: str) -> Documents:
    """Parses a route to orders with `text` on line 8."""
    return parse(f"{HEAD}  - route: [{{destination: {{host: orders}}}}]\n    {text}\n", "f.yaml")


def route(text: str) -> HttpRoute:
    """Returns the route that `text` makes, which gives no warning."""
    documents = read(text)
    assert (documents.problems, documents.warnings) == ((), ())
    return documents.entries[0].resource.routes[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{delay: {percentage: {value: 12.5}, fixedDelay: 2s}}", Fault(delay=2.0, delay_share=0.125)),
        ("{delay: {percent: 10, fixedDelay: 10ms}}", Fault(delay=0.01, delay_share=0.1)),
        (
            "{abort: {percentage: {value: 100}, grpcStatus: DATA_LOSS}}",
            Fault(abort_code="DATA_LOSS", abort_share=1.0),
        ),
        ("{abort: {percent: 50, httpStatus: 503}}", Fault(abort_code="UNAVAILABLE", abort_share=0.5)),
        ("{abort: {percent: 50, httpStatus: 500}}", Fault(abort_code="UNKNOWN", abort_share=0.5)),
        (
            "{delay: {percent: 1, fixedDelay: 1s}, abort: {percent: 2, httpStatus: 404}}",
            Fault(delay=1.0, delay_share=0.01, abort_code="UNIMPLEMENTED", abort_share=0.02),
        ),
    ],
)
def test_faults(text: str, expected: Fault) -> None:
    """A delay and an abort each have their share of the calls; an HTTP status is what a gRPC call sees of it."""
    assert route(f"fault: {text}").fault == expected


def test_a_fault_without_a_percentage_is_reported() -> None:
    """Istio takes a missing percentage for 0: such a fault is left out, and named with its line."""
    documents = read("fault: {abort: {httpStatus: 503}}")
    assert documents.entries[0].resource.routes[0].fault is None
    assert [str(warning) for warning in documents.warnings] == [
        "f.yaml:8: spec.http[0].fault.abort: has no effect: percentage is 0, or not given, which is the same"
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mirror: {host: shadow}", (MirrorTo(Destination("shadow", "", 100)),)),
        (
            "mirror: {host: shadow, subset: v2}\n    mirrorPercentage: {value: 5}",
            (MirrorTo(Destination("shadow", "v2", 100), 0.05),),
        ),
        ("mirror: {host: shadow}\n    mirror_percent: 25", (MirrorTo(Destination("shadow", "", 100), 0.25),)),
        ("mirror: {host: shadow}\n    mirrorPercentage: {value: 0}", ()),
        (
            "mirrors: [{destination: {host: a}, percentage: {value: 0.5}}, {destination: {host: b}}]",
            (MirrorTo(Destination("a", "", 100), 0.005), MirrorTo(Destination("b", "", 100))),
        ),
    ],
)
def test_copies(text: str, expected: tuple[MirrorTo, ...]) -> None:
    """One destination or several get copies of all calls or of a share; a share of 0 is none."""
    assert route(text).mirrors == expected


def test_header_edits() -> None:
    """Per direction what is removed comes first, then what is set, then what is added; names are lower case."""
    found = route("headers: {request: {set: {X-A: a}, add: {x-b: b}, remove: [x-c]}, response: {remove: [x-d]}}")
    assert found.headers == HeaderEdits(
        request=(
            HeaderEdit("x-c", None),
            HeaderEdit("x-a", "a", append=False),
            HeaderEdit("x-b", "b", append=True),
        ),
        response=(HeaderEdit("x-d", None),),
    )


def test_header_edits_of_a_destination() -> None:
    """A destination has edits of its own."""
    text = HEAD + "  - route: [{destination: {host: orders}, headers: {request: {set: {x-a: a}}}}]\n"
    destination = parse(text, "f.yaml").entries[0].resource.routes[0].destinations[0]
    assert destination.headers == HeaderEdits(request=(HeaderEdit("x-a", "a", append=False),))


def test_retries_that_avoid_previous_hosts() -> None:
    """`retryIgnorePreviousHosts` is read; `retryRemoteLocalities: true` is reported, as no locality stands behind."""
    documents = read("retries: {attempts: 1, retryIgnorePreviousHosts: true, retryRemoteLocalities: true}")
    assert documents.entries[0].resource.routes[0].retries.avoid_previous
    assert [str(warning) for warning in documents.warnings] == [
        (
            "f.yaml:8: spec.http[0].retries.retryRemoteLocalities: has no effect: no locality stands behind another "
            "here, a retry goes to any as a call does"
        )
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("fault: {}", "fault: expected delay, abort or both"),
        ("fault: {delay: {percent: 1}}", "fault.delay.fixedDelay: required field is missing"),
        (
            "fault: {delay: {percent: 1, exponentialDelay: 1s}}",
            "fault.delay.exponentialDelay: is not supported; use fixedDelay",
        ),
        (
            "fault: {delay: {percent: 1, percentage: {value: 1}, fixedDelay: 1s}}",
            "fault.delay.percent: only one of percentage, percent may be given",
        ),
        (
            "fault: {delay: {percentage: {value: 101}, fixedDelay: 1s}}",
            "fault.delay.percentage.value: expected 0 to 100, got 101",
        ),
        ("fault: {abort: {percent: 1}}", "fault.abort: expected httpStatus or grpcStatus"),
        ("fault: {abort: {percent: 1, httpStatus: 200}}", "fault.abort.httpStatus: expected 400 to 599, got 200"),
        (
            "fault: {abort: {percent: 1, http2Error: INTERNAL}}",
            "fault.abort.http2Error: is not supported; use httpStatus or grpcStatus",
        ),
        (
            "mirror: {host: a}\n    mirrors: [{destination: {host: b}}]",
            "mirrors: only one of mirror, mirrors may be given",
        ),
        (
            "mirrorPercentage: {value: 1}",
            "mirrorPercentage: needs mirror; an entry of mirrors has a percentage of its own",
        ),
        ("mirror: {host: '*'}", "mirror.host: a wildcard host is not supported; give every host its name"),
        (
            "headers: {request: {set: {':authority': a}}}",
            "headers.request.set[:authority]: ':authority' is not the name of a metadata key",
        ),
        (
            "headers: {request: {remove: [grpc-timeout]}}",
            "headers.request.remove[0]: grpc-timeout belongs to gRPC itself and cannot be edited",
        ),
        (
            "headers: {request: {add: {x-a: '%REQ(x-b)%'}}}",
            ("headers.request.add[x-a]: must not hold %: Envoy would take it for a command, gRPC's clients would not"),
        ),
        ("headers: {request: {add: {x-bin: a}}}", "headers.request.add[x-bin]: the value of a -bin key is not text"),
        ("headers: {request: {add: {x-a: é}}}", "headers.request.add[x-a]: 'é' is not printable ASCII"),
        ("headers: {requests: {}}", "headers.requests: unknown field, did you mean request?"),
    ],
)
def test_refused(text: str, expected: str) -> None:
    """What cannot be done, or would be done otherwise by some client, is refused where it stands."""
    problems = [str(problem).partition(": ")[2] for problem in read(text).problems]
    assert problems == [f"spec.http[0].{expected}"]


def test_the_destination_of_copies_must_exist() -> None:
    """A subset that no DestinationRule has is refused for copies as it is for calls."""
    with pytest.raises(ConfigurationRefused, match=r"f\.yaml:8: .*unknown subset v9: no DestinationRule"):
        merge(read("mirror: {host: orders, subset: v9}"))
    with pytest.raises(ConfigurationRefused, match=r"f\.yaml:8: .*unknown host a\.b: no ServiceEntry has it"):
        merge(read("mirror: {host: a.b}"))
