"""What is wrong, or has no effect, in a process's report: one line each, most severe first. Pure; used by `doctor`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Report = Mapping[str, Any]

_ANSWERING = "answered"
_RESOURCES_AWAITED = frozenset({"requested", "unreachable"})


@dataclass(frozen=True, slots=True)
class Finding:
    """`wrong`: something does not work; else it is worth knowing. `text`: what, where, and what to do."""

    wrong: bool
    text: str


def _wrong(text: str) -> Finding:
    return Finding(wrong=True, text=text)


def _noted(text: str) -> Finding:
    return Finding(wrong=False, text=text)


def findings(report: Report) -> list[Finding]:
    """Returns the findings of a process's report, what is wrong first."""
    found = [one for mesh in report["meshes"] for one in _of_mesh(mesh)]
    return sorted(found, key=lambda one: not one.wrong)


def _of_mesh(mesh: Report) -> Iterator[Finding]:
    yield from _of_servers(mesh["servers"])
    for target in mesh["targets"]:
        if not target["progress"].endswith("configuration is complete"):
            yield _wrong(f"{target['target']}: {target['progress'].removeprefix(target['target'] + ': ')}")
    for one in mesh["resources"]:
        yield from _of_resource(one)
    for name in mesh["bootstrap_ignored"]:
        yield _noted(f"bootstrap: {name} has no effect here")


def _of_servers(servers: Sequence[Report]) -> Iterator[Finding]:
    """A server behind one that answers is a fallback (gRFC A71): not being asked is what it is for."""
    answers = any(one["phase"] == _ANSWERING for one in servers)
    for one in servers:
        if one["problem"]:
            words = f"{one['problem']}; is it running, and are its address and credentials right?"
            yield _noted(words) if answers else _wrong(words)


def _of_resource(one: Report) -> Iterator[Finding]:
    name = f"{one['type']} {one['name']!r}"
    kept = "; the last good version is used" if one["kept"] else ""
    if one["state"] == "invalid":
        yield _wrong(f"{name}: refused (NACK): {one['problem']}{kept}")
    elif one["state"] in _RESOURCES_AWAITED:
        yield _wrong(f"{name}: {one['problem'] or one['state']}{kept}")
    elif one["problem"] or one["state"] == "absent":
        yield _wrong(f"{name}: {one['problem'] or 'the server does not have it'}{kept}")
    if one["no_effect"]:
        yield _noted(f"{name}: without effect here: {', '.join(one['no_effect'])}")
