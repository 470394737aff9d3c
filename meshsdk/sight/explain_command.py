"""`meshsdk explain TARGET METHOD`: where a call goes and why, in a live process (--pid), or tried from here.

Without --pid a mesh of its own is made: of the environment's bootstrap (--bootstrap FILE), whose last good files count
where no control plane can be reached, or of YAML (--config), which needs none.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from meshsdk.errors import ConfigurationError
from meshsdk.sight.doctor_command import add_whom, question, settle

_CONNECTING = 1.0  # seconds in which endpoints may come up, so that their states say something


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the options."""
    add_whom(parser)
    parser.add_argument("--config", metavar="YAML", help="a file or directory, as meshctl serve has it")
    parser.add_argument("--app", default="", help="with --config: the calling application (sourceLabels)")
    parser.add_argument("--header", metavar="K=V", action="append", default=[], help="metadata; may be repeated")
    parser.add_argument("--field", metavar="PATH=VALUE", action="append", default=[], help="request field; repeatable")
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text")
    parser.add_argument("target", metavar="TARGET", help="xds:///name or mesh:///name")
    parser.add_argument("method", metavar="METHOD", help="/package.Service/Method")


def main(arguments: argparse.Namespace) -> int:
    """Runs the command. Raises MeshError for what cannot be asked, resolved or read."""
    asked = {
        "do": "explain",
        "target": arguments.target,
        "method": arguments.method,
        "metadata": [list(_pair(text, "--header")) for text in arguments.header],
        "fields": _fields(arguments.field),
    }
    if arguments.pid is not None:
        answer = question(asked, arguments.pid, arguments.timeout)
    else:
        answer = _tried(arguments, asked)
    if arguments.output == "json":
        print(json.dumps(answer, indent=2))
    else:
        for line in _lines(answer):
            print(line)
    return 0


def _pair(text: str, option: str) -> tuple[str, str]:
    name, mark, value = text.partition("=")
    if not mark or not name:
        raise ConfigurationError(f"{option} {text!r}: give NAME=VALUE")
    return name, value


def _fields(given: list[str]) -> dict[str, list[str]]:
    """Returns request fields; one that is not given is not set."""
    fields: dict[str, list[str]] = {}
    for text in given:
        path, value = _pair(text, "--field")
        fields.setdefault(path, []).append(value)
    return fields


def _tried(arguments: argparse.Namespace, asked: Mapping[str, Any]) -> Mapping[str, Any]:
    """Resolves the target in this process, lets endpoints connect for a moment, and explains."""
    from meshsdk.sight.explain import described, explained  # noqa: PLC0415 - asking a live process needs no gRPC
    from meshsdk.sight.reaching import explain_failures  # noqa: PLC0415 - see above

    call = described(asked)
    with _mesh(arguments) as mesh:
        settle(mesh, [arguments.target], arguments.timeout)
        channel = mesh.channel(arguments.target)
        try:
            channel.subscribe(lambda _: None, try_to_connect=True)
            until = time.monotonic() + _CONNECTING
            while True:
                views = list(explained(mesh, arguments.target, call))
                if time.monotonic() >= until or _settled(views):
                    explain_failures(views)
                    return {"target": arguments.target, "method": call.method, "views": views}
                time.sleep(0.05)
        finally:
            channel.close()


def _settled(views: list[dict[str, Any]]) -> bool:
    endpoints = [one for view in views for way in view["ways"] for one in way.get("endpoints", ())]
    return bool(endpoints) and not any(one["why"] in ("idle", "connecting") for one in endpoints)


@contextmanager
def _mesh(arguments: argparse.Namespace) -> Iterator[Any]:
    """Makes the mesh that is asked."""
    from meshsdk.channel.mesh import Mesh  # noqa: PLC0415 - asking a live process needs no gRPC

    if arguments.config is None:
        with Mesh(arguments.bootstrap) as mesh:
            yield mesh
        return
    from meshsdk.testing import control_plane  # noqa: PLC0415 - needs the extra `controlplane`

    with control_plane(Path(arguments.config)) as plane, Mesh(plane.bootstrap(arguments.app)) as mesh:
        yield mesh


def _lines(answer: Mapping[str, Any]) -> Iterator[str]:
    yield f"{answer['method']} to {answer['target']}"
    for view in answer["views"]:
        yield f"node {view['node']!r}, {view['scope']}"
        if view["problem"]:
            yield f"  no configuration: {view['problem']}"
        for one in view["routes"]:
            yield f"  route {one['route']!r}: {_share(one['share'])}{_because(one['reasons'])}"
        for way in view["ways"]:
            yield from _way_lines(way)


def _because(reasons: list[str]) -> str:
    return f": {'; '.join(reasons)}" if reasons else ""


def _share(share: float) -> str:
    return "does not match" if share == 0 else "takes the call" if share == 1 else f"takes {share * 100:g} %"


def _way_lines(way: Mapping[str, Any]) -> Iterator[str]:
    name = f"cluster {way['cluster']!r} by route {way['route']!r}" if way["cluster"] else "nowhere"
    yield f"  {way['share'] * 100:g} % of the calls go to {name}{': ' + way['problem'] if way['problem'] else ''}"
    for one in (*way.get("policies", ()), *way.get("filters", ())):
        yield f"    {one['name']}: {one['value']} [{one['origin']}]"
    for one in way.get("breakers", ()):
        words = f"{one['running']} of {one['limit']} running, {one['waiting']} waiting, {one['refused']} refused"
        yield f"    breaker of {one['cluster']}, {one['priority']}: {words}"
    if way["cluster"] and not any(one["takes"] for one in way.get("endpoints", ())):
        yield "    nothing takes calls there now"
    for one in way.get("endpoints", ()):
        mark = "in " if one["takes"] else "out"
        place = f"priority {one['priority']}, {one['locality'] or 'no locality'}"
        yield f"    {mark} {one['address']} ({place}): {one['why']}"
