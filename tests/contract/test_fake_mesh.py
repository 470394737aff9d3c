"""What `meshsdk.testing` offers to users' tests, used as they would."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from collections import Counter

import grpc
import pytest
from envoy.service.discovery.v3 import discovery_pb2

import meshsdk
from meshsdk import facade, testing
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


def line(at=0, sender="client", transport="delta", message=None):
    """A line of a recording; `message` None: one that names a type."""
    form = discovery_pb2.DeltaDiscoveryRequest if sender == "client" else discovery_pb2.DeltaDiscoveryResponse
    if message is None:
        form = discovery_pb2.DiscoveryRequest if transport == "sotw" else form
        message = form(type_url="type.googleapis.com/a").SerializeToString()
    facts = {"at": at, "stream": 1, "server": "x", "transport": transport, "from": sender}
    return json.dumps({**facts, "message": base64.b64encode(message).decode()}) + "\n"


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
        (line(at="nan"), ":1: no line"),
        (line() + line(sender="server", message=b"\xff\xff"), ":2: its message is no DeltaDiscoveryResponse"),
        (line(message=b""), ":1: its message is no DeltaDiscoveryRequest that names a type"),
        (line() + line(transport="sotw"), "stream 1 is of two transports"),
        (line(sender="server"), "stream 1 has no message of its client"),
    ],
)
def test_what_is_no_recording(tmp_path, text, words):
    """One clear error names the file and the line."""
    path = tmp_path / "xds.jsonl"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=words):
        testing.replay(path)


def test_a_recording_is_said_to_many_at_once(tmp_path):
    """Thirty streams are open at the same time, and each of them gets its answer."""
    path = tmp_path / "xds.jsonl"
    path.write_text(line() + line(sender="server"))
    asked = discovery_pb2.DeltaDiscoveryRequest(type_url="type.googleapis.com/a").SerializeToString()
    done = threading.Event()

    def requests():
        yield asked
        done.wait(30)

    with testing.replay(path) as plane, grpc.insecure_channel(plane.address) as channel:
        method = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
        streams = [channel.stream_stream(method)(requests(), timeout=30) for _ in range(30)]
        answers = {discovery_pb2.DeltaDiscoveryResponse.FromString(next(stream)).type_url for stream in streams}
        done.set()
        for stream in streams:
            stream.cancel()
    assert answers == {"type.googleapis.com/a"}


def test_recording_ends_where_it_cannot_be_written(tmp_path, monkeypatch, caplog):
    """A recording that cannot be written is one line of log, and no harm to the mesh."""
    monkeypatch.setenv("MESHSDK_XDS_RECORD", str(tmp_path / "no" / "such" / "folder"))
    with testing.FakeMesh() as mesh:
        mesh.serve("orders", answering("a"))
        assert ask(mesh.channel("xds:///orders")) == "a"
    assert [one.message for one in caplog.records if "recording" in one.message] == [
        f"MESHSDK_XDS_RECORD={tmp_path}/no/such/folder: cannot be written: No such file or directory; recording nothing"
    ]


def test_one_recording_for_all_meshes_of_a_process(tmp_path, monkeypatch):
    """Two meshes, one of which is closed first, and one in place of it write one file: each stream has its number."""
    recording = tmp_path / "xds.jsonl"
    recording.write_text("of a process before\n")
    recording.chmod(0o644)
    monkeypatch.setenv("MESHSDK_XDS_RECORD", str(recording))
    with testing.FakeMesh() as mesh:
        mesh.serve("orders", answering("a"))
        with meshsdk.Mesh(mesh.bootstrap("one")) as one:
            for node in ("two", "three"):
                with meshsdk.Mesh(mesh.bootstrap(node)) as other:
                    ask(other.channel("xds:///orders"))
            ask(one.channel("xds:///orders"))
    lines = [json.loads(text) for text in recording.read_text().splitlines()]
    assert {facts["stream"] for facts in lines if facts["from"] == "server"} == {1, 2, 3}
    assert recording.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [recording]


def test_a_link_is_not_recorded_into(tmp_path, monkeypatch, caplog):
    """Whoever may write the directory does not choose the file that a process overwrites."""
    (tmp_path / "mine").write_text("precious")
    (tmp_path / "xds.jsonl").symlink_to(tmp_path / "mine")
    monkeypatch.setenv("MESHSDK_XDS_RECORD", str(tmp_path / "xds.jsonl"))
    with testing.FakeMesh() as mesh:
        mesh.serve("orders", answering("a"))
        assert ask(mesh.channel("xds:///orders")) == "a"
    assert (tmp_path / "mine").read_text() == "precious"
    assert "recording nothing" in caplog.text


def test_a_closed_mesh_is_no_longer_listed():
    """`meshsdk doctor` and CSDS tell of open meshes only."""
    with testing.FakeMesh() as mesh:
        open_, closed = (meshsdk.Mesh(mesh.bootstrap(node)) for node in ("a", "b"))
        with open_:
            closed.close()
            assert open_ in facade.meshes()
            assert closed not in facade.meshes()
        assert open_ not in facade.meshes()


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
