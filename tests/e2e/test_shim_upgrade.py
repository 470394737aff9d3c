"""A shim replaces its Envoy under load: no call fails, none is handled twice, and what is broken is rolled back."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path

import grpc
import pytest

from meshsdk import testing
from meshsdk.errors import MeshError
from meshsdk.shim.control import ask
from meshsdk.shim.envoy.executable import default_executable
from tests.e2e.processes import ROOT, entry_point, until
from tests.e2e.shims import ShimProcess, free_ports

pytestmark = [pytest.mark.envoy, pytest.mark.timeout(240)]

_OTHER = "1.39.3"  # a version that PyPI has beside the installed one
_SERVICE = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: orders}
spec:
  hosts: [orders]
  ports: [{number: 50051, name: grpc, protocol: GRPC}]
  resolution: STATIC
  workloadSelector: {labels: {app: orders}}
"""


class Application(grpc.GenericRpcHandler):
    """A server without any mesh, which counts how often it saw each call. `seen`: written by handlers (GIL-atomic)."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.port = free_ports(1)[0]
        self.server = grpc.server(futures.ThreadPoolExecutor(16), [self])
        self.server.add_insecure_port(f"127.0.0.1:{self.port}")
        self.server.start()

    def service(self, call: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        """As grpc asks."""
        if call.method == "/shop.Orders/Watch":
            return grpc.stream_stream_rpc_method_handler(self._watch)
        return grpc.unary_unary_rpc_method_handler(self._get)

    def _get(self, request: bytes, _context: grpc.ServicerContext) -> bytes:
        self.seen.append(request.decode())
        return request

    def _watch(self, requests: Iterator[bytes], _context: grpc.ServicerContext) -> Iterator[bytes]:
        for request in requests:
            self.seen.append(request.decode())
            yield request


class Callers:
    """Threads that call through the shim's outbound listener until they are stopped, each with its own channel."""

    def __init__(self, port: int, unary: int = 4, streams: int = 2) -> None:
        self.sent: list[str] = []
        self.failed: list[str] = []
        self._numbers = itertools.count()
        self._stop = threading.Event()
        kinds: list[Callable[[grpc.Channel], None]] = [self._unary] * unary + [self._stream] * streams
        self._threads = [threading.Thread(target=self._run, args=(kind, port)) for kind in kinds]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        until(lambda: len(self.sent) > 50, "callers to be under way")
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join(30)

    def _run(self, kind: Callable[[grpc.Channel], None], port: int) -> None:
        options = [("grpc.default_authority", "orders"), ("grpc.use_local_subchannel_pool", 1)]
        with grpc.insecure_channel(f"127.0.0.1:{port}", options) as channel:
            while not self._stop.is_set():
                try:
                    kind(channel)
                except grpc.RpcError as error:
                    self.failed.append(f"{error.code()}: {error.details()}")
                time.sleep(0.01)  # a caller's pace: two Envoys, the server and all callers share two cores

    def _unary(self, channel: grpc.Channel) -> None:
        name = f"call-{next(self._numbers)}"
        self.sent.append(name)
        assert channel.unary_unary("/shop.Orders/Get")(name.encode(), 20) == name.encode()

    def _stream(self, channel: grpc.Channel) -> None:
        names = [f"message-{next(self._numbers)}" for _ in range(20)]

        def paced() -> Iterator[bytes]:
            for name in names:
                yield name.encode()
                time.sleep(0.01)

        self.sent.extend(names)
        answers = list(channel.stream_stream("/shop.Orders/Watch")(paced(), 20))
        if [answer.decode() for answer in answers] != names:
            self.failed.append(f"a stream of {len(names)} gave {len(answers)} answers")


@pytest.fixture(scope="module")
def application() -> Iterator[Application]:
    """The application behind the shim."""
    started = Application()
    yield started
    started.server.stop(0)


@pytest.fixture(scope="module")
def shim(application: Application) -> Iterator[ShimProcess]:
    """A shim whose outbound listener leads to its own inbound one, so that each call passes its Envoy twice."""
    os.environ["MESHSDK_ENVOY_VERSIONS"] = str(ROOT / ".cache" / "envoy")  # installed once for all runs
    with testing.control_plane(_SERVICE) as plane:
        section = {"registries": {"default": {"url": f"grpc://{plane.address}"}}}
        bootstrap = plane.bootstrap("orders", section=section)
        options = ("--drain", "5")
        with ShimProcess("orders", bootstrap, *options, application=application.port, targets=["xds:///orders"]) as it:
            until(lambda: it.status()["application"]["state"] == "ONLINE", "the application to be online")
            channel = grpc.insecure_channel(f"127.0.0.1:{it.outbound}", [("grpc.default_authority", "orders")])
            with channel:
                get = channel.unary_unary("/shop.Orders/Get")
                until(lambda: answers(get), "the way through the mesh")
            yield it
    del os.environ["MESHSDK_ENVOY_VERSIONS"]


def answers(get: grpc.UnaryUnaryMultiCallable) -> bool:
    """Whether a call comes through."""
    try:
        return get(b"first", 5) == b"first"
    except grpc.RpcError:
        return False


def upgrade(shim: ShimProcess, to: Path | str, watch: float = 0.3, timeout: float = 60.0) -> dict:
    """Upgrades; raises MeshError with the shim's words."""
    return dict(ask(shim.folder / "control.sock", "upgrade", 100, to=str(to), watch=watch, start=timeout))


def envoys(shim: ShimProcess) -> set[int]:
    """The processes that run with this shim's folder."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if f"{shim.folder}/envoy-".encode() in command:
                found.add(int(entry.name))
    return found


def broken(folder: Path, words: str) -> Path:
    """Makes a program that says it is Envoy and, asked to serve, does `words` (shell)."""
    real = default_executable()
    path = folder / "envoy"
    path.write_text(f'#!/bin/bash\ncase "$1" in --version|--hot-restart-version) exec {real} "$1";; esac\n{words}\n')
    path.chmod(0o755)
    return path


def expect_none_lost(callers: Callers, application: Application) -> None:
    """Zero failed, zero handled twice, and each that was sent was handled."""
    assert callers.failed == []
    counts = Counter(application.seen)
    assert [name for name in callers.sent if counts[name] != 1] == []


def test_ten_upgrades_under_load(shim: ShimProcess, application: Application) -> None:
    """Ten Envoys follow one another, of two versions, under unary calls and streams; each old one is gone."""
    application.seen.clear()
    with Callers(shim.outbound) as callers:
        for round_ in range(10):
            to = _OTHER if round_ % 2 == 0 else "1.40.0"
            done = upgrade(shim, to)
            assert done["version"] == to
            assert envoys(shim) == {done["pid"]}
            assert shim.status()["envoy"]["version"] == to
    expect_none_lost(callers, application)


@pytest.mark.parametrize(
    ("words", "timeout", "problem"),
    [
        ("exit 3", 60.0, "it ended before it served"),
        ("exec sleep 600", 1.0, "it did not serve within 1 s"),
        ('(sleep 0.2; kill -9 $$) & exec {real} "$@" --mode validate', 60.0, "it ended before it served"),
    ],
)
def test_a_broken_version_is_rolled_back(
    shim: ShimProcess, application: Application, tmp_path: Path, words: str, timeout: float, problem: str
) -> None:
    """A program that ends, or never serves, is given up; the running Envoy is not touched and no call notices."""
    application.seen.clear()
    path = broken(tmp_path, words.replace("{real}", str(default_executable())))
    before = envoys(shim)
    with Callers(shim.outbound) as callers:
        with pytest.raises(MeshError, match=problem):
            upgrade(shim, path, timeout=timeout)
        assert envoys(shim) == before
        assert shim.status()["phase"] == "rolled-back"
    expect_none_lost(callers, application)


def test_a_version_that_dies_after_it_took_over(shim: ShimProcess, application: Application, tmp_path: Path) -> None:
    """The new Envoy is killed seconds after the hand-over: the former program is back and no connection is refused."""
    dying = tmp_path / "die"
    path = broken(
        tmp_path, f'me=$$; (until [ -e {dying} ]; do sleep 0.05; done; kill -9 $me) & exec {default_executable()} "$@"'
    )
    before = shim.status()["envoy"]
    with Callers(shim.outbound) as callers:
        with futures.ThreadPoolExecutor(1) as pool:
            outcome = pool.submit(upgrade, shim, path, 9.0)
            until(lambda: shim.status()["envoy"]["pid"] != before["pid"], "the hand-over")
            dying.touch()
            assert "it ended after it had taken over" in str(outcome.exception(60))
        after = shim.status()["envoy"]
        assert after["executable"] == before["executable"]
        assert envoys(shim) == {after["pid"]}
        count = len(application.seen)
        until(lambda: len(application.seen) > count + 50, "calls to go on")
    # Calls that were in flight on the dead process are lost; but none found a door shut.
    assert [words for words in callers.failed if "refused" in words.lower()] == []
    assert len(callers.failed) <= 12


def test_a_version_that_does_not_stay_up(shim: ShimProcess, tmp_path: Path) -> None:
    """It took over, was settled, and dies again and again: the shim says failing, and an upgrade brings it back."""
    dying = tmp_path / "die"
    path = broken(
        tmp_path, f'me=$$; (until [ -e {dying} ]; do sleep 0.05; done; kill -9 $me) & exec {default_executable()} "$@"'
    )
    upgrade(shim, path)
    dying.touch()
    until(lambda: shim.status()["phase"] == "failing", "the shim to say so")
    done = upgrade(shim, default_executable())
    assert shim.status()["phase"] == "running"
    assert envoys(shim) == {done["pid"]}
    left = {path.name.partition("_")[0].partition(".")[0] for path in shim.folder.iterdir()}
    kinds = [name[0] for name in left if name.startswith(("envoy-", "admin-", "h"))]
    assert sorted(kinds) == ["a", "e", "h"], "of one Envoy only"


def test_what_cannot_be_upgraded_to(shim: ShimProcess, tmp_path: Path) -> None:
    """A file that is no Envoy, a version that does not exist and a word that is neither: one clear line each."""
    before = envoys(shim)
    other = tmp_path / "other"
    other.write_text(f'#!/bin/bash\n[ "$1" = --version ] && exec {default_executable()} --version\necho 12.104\n')
    other.chmod(0o755)
    for to, words in [
        ("/bin/false", "ended with exit code 1"),
        (tmp_path / "absent", "is not a program"),
        ("0.0.1", "cannot be installed"),
        ("latest", "neither a path"),
        (other, "hot-restart version is '12.104'"),
    ]:
        with pytest.raises(MeshError, match=words):
            upgrade(shim, to)
    assert envoys(shim) == before


def test_the_command(shim: ShimProcess) -> None:
    """`meshsdk shim upgrade --to PATH` says what it did, in one line."""
    words = ("--folder", str(shim.folder), "--to", str(default_executable()), "--watch", "0")
    with entry_point("meshsdk.cli:main", "shim", "upgrade", *words) as process:
        assert process.line(60).startswith("upgraded from Envoy ")
        until(lambda: not process.running, "the command to end")
        assert process.stop() == 0
