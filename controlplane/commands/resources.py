"""`meshctl apply|get|delete|validate`: the resources."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from controlplane.admin.client import AdminClient
from controlplane.commands.output import FAILED, OK, complain, say, table, yaml_text
from controlplane.commands.steering_rows import TABLES, body
from controlplane.config.directory import load, load_file
from controlplane.config.documents import parse
from controlplane.config.merge import merge
from controlplane.config.problems import ConfigurationRefused
from controlplane.config.tree import MAX_BYTES
from controlplane.model.identity import ResourceKind
from meshsdk.errors import ConfigurationError

_SHORT = {
    "se": "ServiceEntry",
    "we": "WorkloadEntry",
    "vs": "VirtualService",
    "dr": "DestinationRule",
    "up": "UnitPolicy",
    "dp": "DiscoveryPolicy",
    "ts": "TrafficSwitch",
    "ss": "ShimSet",
    "cp": "CallPolicy",
    "rl": "RateLimit",
}


def kind_name(text: str) -> str:
    """Returns the kind that a user means: any case, singular or plural, or the short form. Raises ValueError."""
    low = text.lower()
    for kind in ResourceKind:
        name = kind.value.lower()
        plural = name[:-1] + "ies" if name.endswith("y") else name + ("es" if name.endswith("ch") else "s")
        if low in {name, plural} or _SHORT.get(low) == kind.value:
            return kind.value
    raise ValueError(text)


def apply(arguments: argparse.Namespace) -> int:
    """Sends a file, or stdin for `-`."""
    client = AdminClient(arguments.server)
    text = _bytes(arguments.file)
    answer = client.apply(text, "(stdin)" if arguments.file == "-" else arguments.file)
    if isinstance(answer, dict):
        complain(f"meshctl: warning: {warning}" for warning in answer["warnings"])
        for each in answer["applied"]:
            say(f"{each['resource']} {each['outcome']}")
    return OK


def _bytes(file: str) -> bytes:
    try:
        if file == "-":
            return sys.stdin.buffer.read(MAX_BYTES + 1)
        with Path(file).open("rb") as stream:
            return stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be read: {error.strerror}") from None


def get(arguments: argparse.Namespace) -> int:
    """Shows resources in force."""
    client = AdminClient(arguments.server)
    parts = ["resources", *([] if arguments.kind == "all" else [arguments.kind])]
    if arguments.name:
        parts += [arguments.namespace, arguments.name]
    found = client.get(*parts)
    rows = found if isinstance(found, list) else []
    if arguments.output == "json":
        bodies = [body(row) for row in rows]
        say(json.dumps(bodies[0] if arguments.name else bodies, indent=2))
    elif arguments.output == "yaml":
        if rows:
            say("---\n".join(_document(row) + "\n" for row in rows).rstrip())
    elif arguments.kind in TABLES:
        columns, make = TABLES[arguments.kind]
        table([make(row) for row in rows], columns)
    else:
        table([_row(row) for row in rows], ("kind", "namespace", "name", "hosts", "from"))
    return OK


def _document(row: Mapping[str, object]) -> str:
    """Returns a resource as it was written; one with a status as its values."""
    return yaml_text(body(row)) if "status" in row else str(row["text"]).rstrip()


def _row(row: Mapping[str, object]) -> list[str]:
    body = row["body"]
    spec = body.get("spec") if isinstance(body, Mapping) else None
    hosts: object = ""
    if isinstance(spec, Mapping):
        groups = spec.get("services") or ()  # of a UnitPolicy
        hosts = (
            spec.get("hosts")
            or spec.get("host")
            or spec.get("address")
            or spec.get("app")  # of a TrafficSwitch
            or [host for group in groups for host in group["hosts"]]
        )
    shown = ",".join(map(str, hosts)) if isinstance(hosts, Sequence) and not isinstance(hosts, str) else str(hosts)
    return [str(row["kind"]), str(row["namespace"]), str(row["name"]), shown, str(row["origin"])]


def delete(arguments: argparse.Namespace) -> int:
    """Deletes a resource that was applied."""
    answer = AdminClient(arguments.server).delete(arguments.kind, arguments.namespace, arguments.name)
    if isinstance(answer, dict):
        say(f"{answer['deleted']} deleted")
    return OK


def validate(arguments: argparse.Namespace) -> int:
    """Checks a file or a directory, without a control plane. Every finding is a line."""
    path = Path(arguments.file)
    if arguments.file == "-":
        documents = parse(sys.stdin.read(MAX_BYTES), "(stdin)")
    else:
        documents = load(path) if path.is_dir() else load_file(path)
    try:
        accepted = merge(documents)
    except ConfigurationRefused as refused:
        complain(str(problem) for problem in refused.problems)
        return FAILED
    warnings = accepted.warnings()
    complain(f"warning: {warning}" for warning in warnings)
    noted = f", {len(warnings)} warnings" if warnings else ""
    say(f"{arguments.file}: {len(accepted.entries)} resources, valid{noted}")
    return OK
