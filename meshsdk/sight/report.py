"""What a process tells `meshsdk doctor`: its meshes, their servers, targets and resources, as JSON values.

Made by `admin_socket` for a live process, and by the command itself for a bootstrap that it tries. Says what is; what
is wrong with it says `findings`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any

from meshsdk.sight.meshes import engines
from meshsdk.version import VERSION
from meshsdk.xds_client.client import Dump
from meshsdk.xds_client.store import Entry

_SHOWN = 200  # characters of a command line


def process_report() -> dict[str, object]:
    """Returns the report of this process."""
    return _process([mesh_report(engine) for engine in engines()])


def alone(engine: Any) -> dict[str, object]:
    """Returns the report of this process with one mesh, whatever others it has."""
    return _process([mesh_report(engine)])


def _process(meshes: list[dict[str, object]]) -> dict[str, object]:
    return {
        "pid": os.getpid(),
        "command": " ".join(" ".join(sys.orig_argv).split())[:_SHOWN],
        "version": VERSION,
        "meshes": meshes,
    }


def mesh_report(engine: Any) -> dict[str, object]:
    """Returns the report of one mesh. `engine`: see `meshsdk.engine.Engine`."""
    dump: Dump = engine.dump()
    bootstrap = engine.bootstrap
    return {
        "node": {"id": bootstrap.node.id, "cluster": bootstrap.node.cluster},
        "bootstrap_ignored": list(bootstrap.ignored),
        "registries": {name: _without_secrets(one.url) for name, one in bootstrap.mesh.registries.items()},
        "cache_dir": bootstrap.mesh.cache_dir,
        "servers": [
            {"uri": one.uri, "phase": one.phase.value, "transport": one.transport, "problem": one.problem}
            for one in dump.servers
        ],
        "targets": [{"target": target, "progress": words} for target, words in dump.targets],
        "resources": [_resource(entry, age) for entry, age in dump.entries],
    }


def _resource(entry: Entry, age: float) -> Mapping[str, object]:
    resource = entry.resource
    return {
        "type": entry.key.kind.name.lower(),
        "name": entry.key.name,
        "state": entry.status.value,
        "kept": resource is not None and not entry.in_force,  # the last good one is used, whatever came after
        "version": entry.version,
        "age": round(age, 1),
        "server": entry.server,
        "problem": entry.problem,
        "no_effect": list(resource.ignored) if resource is not None else [],
    }


def _without_secrets(url: str) -> str:
    """Returns a registry's URL without user, password and parameters."""
    scheme, mark, rest = url.partition("://")
    return f"{scheme}{mark}{rest.rpartition('@')[2].partition('?')[0]}"
