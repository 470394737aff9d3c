"""What `meshsdk.testing` offers to users' tests, used as they would."""

from __future__ import annotations

import asyncio
import base64
import json
from collections import Counter

import grpc
import pytest

import meshsdk
from meshsdk import testing
from meshsdk.errors import ConfigurationError

GET = "/shop.Orders/Get"


def answering(text, code=None):
    """Adds a servicer that answers every call with `text`, or fails it with `code`."""

    def get(_request, context):
        if code is not None:
            context.abort(code, text)
        return text.encode()

    handlers = {"Get": grpc.unary_unary_rpc_method_handler(get)}
    return lambda server: server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("shop.Orders", handlers),)
    )


def ask(channel, timeout=20):
    """One call; returns the answer's text."""
    return channel.unary_unary(GET)(b"", timeout=timeout).decode()


def until_asked(channel, wanted):
    """Calls until the answer is what is wanted."""
    for _ in range(2_000):
        if ask(channel) == wanted:
            return
    raise AssertionError(f"never answered {wanted}")


def test_services_that_come_and_go():
    """Servers of a service share its calls; one that is removed gets none any more."""
    with testing.FakeMesh() as mesh:
        mesh.serve("orders", answering("a"))
        gone = mesh.serve("orders", answering("b"))
        channel = mesh.channel("xds:///orders")
        until_asked(channel, "b")
        until_asked(channel, "a")
        mesh.remove("orders", gone)
        for _ in range(2_000):
            if {ask(channel) for _ in range(10)} == {"a"}:
                break
        assert {ask(channel) for _ in range(50)} == {"a"}


def test_asyncio_and_other_meshes():
    """The same services serve asyncio channels, and meshes that take its bootstrap."""
    with testing.FakeMesh() as mesh:
        mesh.serve("orders", answering("a"))

        async def call():
            async with mesh.aio_channel("xds:///orders") as channel:
                return await channel.unary_unary(GET)(b"", timeout=20)

        assert asyncio.run(call()) == b"a"
        with meshsdk.Mesh(mesh.bootstrap("web")) as other:
            assert ask(other.channel("xds:///orders")) == "a"


def test_routing_by_yaml():
    """Istio resources route among its servers, by the labels that they were given."""
    yaml = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: orders}
spec:
  host: orders
  subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: orders}
spec:
  hosts: [orders]
  http:
  - match: [{headers: {tier: {exact: gold}}}]
    route: [{destination: {host: orders, subset: v2}}]
  - route: [{destination: {host: orders, subset: v1}}]
"""
    with testing.FakeMesh() as mesh:
        mesh.serve("orders", answering("one"), labels={"version": "v1"})
        mesh.serve("orders", answering("two"), labels={"version": "v2"})
        mesh.apply(yaml)
        stub = mesh.channel("xds:///orders").unary_unary(GET)
        for _ in range(2_000):
            if stub(b"", timeout=20, metadata=[("tier", "gold")]) == b"two" and stub(b"", timeout=20) == b"one":
                break
        assert {stub(b"", timeout=20) for _ in range(20)} == {b"one"}
        assert {stub(b"", timeout=20, metadata=[("tier", "gold")]) for _ in range(20)} == {b"two"}


def test_yaml_that_cannot_be_meant():
    """It is refused as the control plane refuses it, and nothing is left running."""
    with pytest.raises(ConfigurationError, match=r"spec\.hostz"):
        testing.FakeMesh(
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a}\nspec: {hostz: [a]}"
        )


def test_a_clock_that_is_moved():
    """An outlier stays out until the clock is moved past its ejection, however long that is."""
    rule = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: orders}
spec:
  host: orders
  trafficPolicy:
    outlierDetection: {consecutive5xxErrors: 2, baseEjectionTime: 3600s, interval: 3600s, maxEjectionPercent: 50}
"""
    clock = testing.ManualClock()
    with testing.FakeMesh(clock=clock) as mesh:
        mesh.serve("orders", answering("good"))
        mesh.serve("orders", answering("bad", grpc.StatusCode.UNAVAILABLE))
        mesh.apply(rule)
        channel = mesh.channel("xds:///orders")

        def outcomes(calls):
            seen = Counter()
            for _ in range(calls):
                try:
                    seen[ask(channel)] += 1
                except grpc.RpcError as error:
                    seen[error.details()] += 1
            return seen

        for _ in range(200):
            if set(outcomes(10)) == {"good"}:
                break
        assert set(outcomes(50)) == {"good"}
        clock.advance(3600)
        for _ in range(200):
            if "bad" in outcomes(10):
                return
        raise AssertionError("it never came back")


def test_a_clock_does_not_go_back():
    """A negative step is refused."""
    with pytest.raises(ValueError, match="does not go back"):
        testing.ManualClock().advance(-1)


@pytest.mark.parametrize("transport", ["delta", "sotw"])
def test_record_and_replay(tmp_path, monkeypatch, transport):
    """What a mesh was told is recorded, and said again to another one that then routes alike, updates included."""
    recording = tmp_path / "xds.jsonl"
    with testing.FakeMesh() as mesh:
        mesh.serve("orders", answering("first"))
        monkeypatch.setenv("MESHSDK_XDS_RECORD", str(recording))
        bootstrap = {**mesh.bootstrap("web"), "meshsdk": {"transport": transport}}
        with meshsdk.Mesh(bootstrap) as recorded:
            channel = recorded.channel("xds:///orders")
            assert ask(channel) == "first"
            mesh.serve("orders", answering("second"))
            until_asked(channel, "second")
        monkeypatch.delenv("MESHSDK_XDS_RECORD")
        assert recording.stat().st_mode & 0o777 == 0o600
        with testing.replay(recording) as plane, meshsdk.Mesh(plane.bootstrap()) as again:
            channel = again.channel("xds:///orders")
            until_asked(channel, "second")
            until_asked(channel, "first")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no stream"),
        ("{", ":1: no line of an xDS recording"),
        ('{"at": 0, "stream": 1, "server": "x", "transport": "smoke", "from": "client", "message": ""}', ":1: no line"),
    ],
)
def test_what_is_no_recording(tmp_path, text, words):
    """One clear error names the file and the line."""
    path = tmp_path / "xds.jsonl"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=words):
        testing.replay(path)


def test_recording_ends_where_it_cannot_be_written(tmp_path, monkeypatch, caplog):
    """A recording that cannot be written is one line of log, and no harm to the mesh."""
    monkeypatch.setenv("MESHSDK_XDS_RECORD", str(tmp_path / "no" / "such" / "folder"))
    with testing.FakeMesh() as mesh:
        mesh.serve("orders", answering("a"))
        assert ask(mesh.channel("xds:///orders")) == "a"
    assert [one.message for one in caplog.records if "recording" in one.message] == [
        f"MESHSDK_XDS_RECORD={tmp_path}/no/such/folder: cannot be written: No such file or directory; recording nothing"
    ]


def test_a_line_of_a_recording(tmp_path, monkeypatch):
    """Lines say when, which stream, who, and the message as it was on the wire."""
    recording = tmp_path / "{pid}.jsonl"
    monkeypatch.setenv("MESHSDK_XDS_RECORD", str(recording))
    with testing.FakeMesh() as mesh:
        mesh.serve("orders", answering("a"))
        ask(mesh.channel("xds:///orders"))
    (made,) = tmp_path.iterdir()
    lines = [json.loads(line) for line in made.read_text().splitlines()]
    assert {one["from"] for one in lines} == {"client", "server"}
    assert lines[0]["from"] == "client"
    assert b"type.googleapis.com" in base64.b64decode(lines[0]["message"])
    assert [one["at"] for one in lines] == sorted(one["at"] for one in lines)
