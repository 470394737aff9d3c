"""Load reports: their bytes, their setters, and what of them a client believes."""

from __future__ import annotations

import pytest
from xds.data.orca.v3.orca_load_report_pb2 import OrcaLoadReport

from meshsdk.lb.endpoint_load import LoadReport
from meshsdk.orca import ServerLoad, recorder
from meshsdk.orca.codec import (
    BINARY_KEY,
    TEXT_KEY,
    UnreadableReport,
    decode,
    decode_request,
    encode,
    encode_request,
    entries,
    reported,
)

WHOLE = LoadReport(1.5, 0.4, 0.25, 120.0, 3.0, {"disk": 0.5}, {"rows": 7.0}, {"queue": -2.0})


class Context:
    """A handler's context as far as trailing metadata goes."""

    def __init__(self) -> None:
        self.trailing: tuple[tuple[str, str | bytes], ...] = ()

    def trailing_metadata(self):
        """See grpc."""
        return self.trailing

    def set_trailing_metadata(self, trailing):
        """See grpc."""
        self.trailing = tuple(trailing)


def test_a_report_survives_its_bytes() -> None:
    """All fields come back."""
    assert decode(encode(WHOLE)) == WHOLE


def test_the_older_field_of_whole_queries_counts() -> None:
    """A peer that knows `rps` alone is understood."""
    assert decode(OrcaLoadReport(rps=9).SerializeToString()).qps == 9


def test_numbers_that_are_none_count_as_not_told() -> None:
    """NaN, infinity and what is below 0 never become a weight."""
    broken = OrcaLoadReport(cpu_utilization=float("nan"), rps_fractional=float("inf"), eps=-1, utilization={"a": -1})
    assert decode(broken.SerializeToString()) == LoadReport()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\xff", "cannot be parsed"),
        (bytes(70_000), "at most 65536 are read"),
        (
            OrcaLoadReport(named_metrics={str(number): 1 for number in range(1001)}).SerializeToString(),
            "at most 1000 are read",
        ),
    ],
)
def test_what_cannot_be_read_is_refused(data: bytes, words: str) -> None:
    """Garbage, too many bytes, too many entries: with words that say so."""
    with pytest.raises(UnreadableReport, match=words):
        decode(data)


def test_the_interval_that_a_client_asks_for() -> None:
    """Seconds there and back; a negative one leaves it to the server; garbage is refused."""
    assert decode_request(encode_request(2.5)) == 2.5
    assert decode_request(b"") == 0.0
    assert decode_request(encode_request(-1)) == 0.0
    with pytest.raises(UnreadableReport):
        decode_request(b"\xff")


def test_a_call_report_joins_the_trailing_metadata() -> None:
    """Other entries stay, the report is there once, and a second recorder goes on with it."""
    context = Context()
    context.set_trailing_metadata((("mine", "1"),))
    recorder(context).cpu_utilization(0.5).qps(10).named_metric("queue", 3)
    recorder(context).request_cost("rows", 7).utilization("disk", 0.5).memory_utilization(0.1).eps(1)
    recorder(context).application_utilization(0.7)
    whole = LoadReport(0.5, 0.7, 0.1, 10, 1, {"disk": 0.5}, {"rows": 7}, {"queue": 3})
    assert context.trailing[0] == ("mine", "1")
    assert [key for key, _ in context.trailing] == ["mine", BINARY_KEY, TEXT_KEY]
    assert reported(context.trailing[:2]) == reported(context.trailing[2:]) == whole


@pytest.mark.parametrize("text", ["", "JSON {}", "BIN not base64!", "BIN /w==", "BIN " + "A" * 140_000])
def test_a_text_that_cannot_be_read_is_refused(text: str) -> None:
    """Other formats than base64 of a message, garbage, too much."""
    with pytest.raises(UnreadableReport):
        reported([(TEXT_KEY, text)])


def test_metadata_without_a_report_has_none() -> None:
    """And what has one gives it back."""
    assert reported([("mine", "1")]) is None
    assert reported([("mine", "1"), *entries(WHOLE)]) == WHOLE


def test_the_servers_load_stands_where_the_call_says_nothing() -> None:
    """The call's own words win."""
    load = ServerLoad()
    load.cpu_utilization(0.9).qps(100)
    context = Context()
    recorder(context, load).qps(50)
    assert reported(context.trailing) == LoadReport(cpu=0.9, qps=50)
    load.clear()
    assert load.report == LoadReport()


@pytest.mark.parametrize(
    ("setter", "arguments"),
    [
        ("cpu_utilization", (-0.1,)),
        ("application_utilization", (float("nan"),)),
        ("memory_utilization", (1.1,)),
        ("qps", (float("inf"),)),
        ("eps", (-1,)),
        ("utilization", ("disk", 2)),
        ("named_metric", ("queue", float("nan"))),
        ("request_cost", ("rows", -1)),
    ],
)
def test_a_number_that_cannot_be_is_refused(setter: str, arguments: tuple[object, ...]) -> None:
    """With the name of the metric; nothing is written."""
    context = Context()
    with pytest.raises(ValueError, match=str(arguments[0]) if len(arguments) > 1 else setter):
        getattr(recorder(context), setter)(*arguments)
    assert context.trailing == ()
