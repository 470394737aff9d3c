"""`meshsdk doctor`: what a process in the mesh has, lacks and ignores.

With --pid or --all it asks live processes over their admin sockets. Else it tries the bootstrap of this environment
itself: connects to the control plane and the registries, and resolves the targets that are named.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from meshsdk.errors import ConfigurationError, LifecycleError
from meshsdk.lifecycle.local_question import GONE, ask
from meshsdk.lifecycle.run_directory import ADMIN, checked_private, pid_of, remove_dead, run_directory, sockets
from meshsdk.sight.findings import Report, findings

_MOST = 64 * 1024 * 1024  # bytes of an answer: a report has a row a resource
_PROBE = "meshsdk.doctor"  # a runtime layer that no control plane has: asking for it needs a stream
_COLUMNS = ("type", "name", "state", "version", "age", "server")


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the options."""
    add_whom(parser)
    parser.add_argument("--all", action="store_true", help="ask every live process of this user")
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text")
    parser.add_argument("targets", metavar="TARGET", nargs="*", help="resolve xds:///name or mesh:///name as well")


def add_whom(parser: argparse.ArgumentParser) -> None:
    """Adds the options that `doctor` and `explain` share."""
    parser.add_argument("--pid", type=int, help="ask this live process, over its admin socket")
    parser.add_argument("--bootstrap", metavar="FILE", help="try this bootstrap instead of the environment's")
    parser.add_argument("--timeout", type=float, default=10.0, metavar="S", help="seconds to wait for answers (10)")


def main(arguments: argparse.Namespace) -> int:
    """Runs the command; 1 where something is wrong. Raises MeshError for what cannot be asked or tried."""
    if arguments.pid is not None or arguments.all:
        if arguments.targets:
            raise ConfigurationError("a live process has its own targets: give none with --pid or --all")
        reports = [question({"do": "report"}, pid, arguments.timeout) for pid in _pids(arguments)]
    else:
        reports = [_tried(arguments.bootstrap, arguments.targets, arguments.timeout)]
    found = [one for report in reports for one in findings(report)]
    if arguments.output == "json":
        listed = [{"wrong": one.wrong, "text": one.text} for one in found]
        print(json.dumps({"processes": reports, "findings": listed}, indent=2))
    else:
        for report in reports:
            _show(report)
        for one in found:
            print(f"{'!!' if one.wrong else '--'} {one.text}")
    wrong = sum(one.wrong for one in found)
    if wrong:
        print(f"meshsdk doctor: {wrong} of {len(found)} findings need attention (!!)", file=sys.stderr)
    return int(wrong > 0)


def _pids(arguments: argparse.Namespace) -> list[int]:
    if arguments.pid is not None:
        return [arguments.pid]
    found = sorted({pid_of(path) for path in sockets(checked_private(run_directory(os.environ)), ADMIN)})
    if not found:
        raise LifecycleError("no process of this user has a mesh and an admin socket (MESHSDK_RUN_DIR, MESHSDK_ADMIN)")
    return found


def question(asked: Mapping[str, object], pid: int, timeout: float) -> Mapping[str, Any]:
    """Asks a live process. Raises LifecycleError where none answers, with what it says where it cannot."""
    directory = checked_private(run_directory(os.environ))
    for path in sockets(directory, ADMIN):
        if pid_of(path) != pid:
            continue
        answer = ask(path, asked, time.monotonic() + timeout, _MOST)
        if answer is GONE:
            remove_dead(path)
        elif answer is None:
            raise LifecycleError(f"process {pid} did not answer within {timeout:g} s")
        elif "problem" in answer:
            raise LifecycleError(f"process {pid}: {answer['problem']}")
        else:
            return answer
    raise LifecycleError(f"no mesh with an admin socket in process {pid} of this user, in {directory}")


def _tried(bootstrap: str | None, targets: Sequence[str], timeout: float) -> Report:
    """Makes a mesh of the bootstrap in this process, has it ask, and reports on it."""
    from meshsdk.channel.mesh import Mesh  # noqa: PLC0415 - asking a live process needs no gRPC
    from meshsdk.sight.report import alone  # noqa: PLC0415 - see above

    with Mesh(bootstrap) as mesh:
        settle(mesh, targets, timeout)
        return _without_probe(alone(mesh))


def _without_probe(report: Report) -> Report:
    """Leaves out what was asked for only to have a stream."""
    for mesh in report["meshes"]:
        mesh["resources"] = [one for one in mesh["resources"] if one["name"] != _PROBE]
        mesh["targets"] = [one for one in mesh["targets"] if _PROBE not in one["target"]]
    return report


def settle(mesh: Any, targets: Sequence[str], timeout: float) -> None:
    """Waits until each target is resolved or known not to be, and each server has been asked; `timeout` s at most.

    Raises ConfigurationError for what is no target of a mesh.
    """
    heard = threading.Condition()
    waiting = set(targets)

    def told(target: str, lack: str) -> None:
        with heard:
            if not lack:
                waiting.discard(target)
            heard.notify_all()

    for target in targets:
        mesh.follow(target, lambda lack, target=target: told(target, lack))
    if mesh.bootstrap.servers:
        mesh.watch_runtime(_PROBE, lambda _: told("", ""))
    until = time.monotonic() + timeout
    with heard:
        while time.monotonic() < until and (waiting or not _asked(mesh)):
            heard.wait(0.05)


def _asked(mesh: Any) -> bool:
    """Tells whether the first server of each list has answered, or every server has been tried in vain."""
    servers = mesh.dump().servers
    return any(one.phase.value == "answered" for one in servers) or all(one.problem for one in servers)


def _show(report: Report) -> None:
    print(f"process {report['pid']}: {report['command']} (meshsdk {report['version']})")
    for mesh in report["meshes"]:
        node = mesh["node"]
        print(f"node {node['id']!r}, cluster {node['cluster']!r}, cache {mesh['cache_dir'] or 'none'}")
        for server in mesh["servers"]:
            print(f"control plane {server['uri']}: {server['phase']}, {server['transport']}")
        for name, url in mesh["registries"].items():
            print(f"registry {name}: {url}")
        rows = [[str(one[column]) for column in _COLUMNS] for one in mesh["resources"]]
        heads = [column.upper() for column in _COLUMNS]
        widths = [max(len(line[index]) for line in [heads, *rows]) for index in range(len(heads))]
        for line in [heads, *rows] if rows else []:
            print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
