"""`meshctl diff-routes OLD NEW TRAFFIC`: where recorded calls would go under another configuration.

Both configurations are translated as a control plane does, for the application that made each call, and the SDK itself
(`meshsdk.sight.what_if`, loaded by name) says what it would do with them. Needs no control plane.
"""

from __future__ import annotations

import argparse
import importlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

from controlplane.commands.output import OK, say, table
from controlplane.commands.traffic_file import RecordedCall, read
from controlplane.config.directory import load, load_file
from controlplane.config.merge import merge
from controlplane.model.configuration import Configuration
from controlplane.translate.routes import route_configuration
from controlplane.translate.view import counting_pairs, view_of

_COLUMNS = ("calls", "target", "method", "before", "after")
_MAX_DECISIONS = 100_000  # kept of one configuration: recorded calls repeat themselves
_Change = tuple[str, str, str, str]


class _Routes:
    """One configuration, asked about calls. Used by one thread; remembers what it was asked."""

    def __init__(self, path: Path) -> None:
        """Raises ConfigurationRefused with every finding."""
        documents = load(path) if path.is_dir() else load_file(path)
        self._configuration = Configuration.of(entry.resource for entry in merge(documents).entries)
        self._counting = counting_pairs(self._configuration)
        self._applications = {value for name, value in self._counting if name == "app"}
        self._hosts = self._configuration.hosts()
        self._deciders: dict[object, Any] = {}
        self._known: dict[RecordedCall, str] = {}

    def way(self, call: RecordedCall) -> str:
        """Returns in words where such calls go, with their shares where they go several ways."""
        known = self._known.get(call)
        if known is None:
            if len(self._known) >= _MAX_DECISIONS:
                self._known.clear()
            fields = None if call.fields is None else dict(call.fields)
            decision = self._decider(call).decide(call.method, call.metadata, fields)
            known = self._known[call] = _words(decision.taken)
        return known

    def _decider(self, call: RecordedCall) -> Any:
        labels = {
            name: value for name, value in call.labels if (name, value) in self._counting
        }  # others decide nothing
        app = call.app if call.app in self._applications else ""
        view = view_of(labels, app, "meshsdk", counting=self._counting)
        key = (call.host, view)
        if key not in self._deciders:
            found = None
            if call.host in self._hosts:
                found = route_configuration(call.host, self._configuration, view).SerializeToString()
            what_if = importlib.import_module("meshsdk.sight.what_if")
            self._deciders[key] = what_if.WhatIf(found, call.host)
        return self._deciders[key]


def _words(taken: Any) -> str:
    shares: Counter[str] = Counter()
    for way in taken:
        shares[way.cluster or f"fails: {way.problem}"] += way.share
    if len(shares) == 1:
        return next(iter(shares))
    return ", ".join(f"{way} {share * 100:.3g} %" for way, share in sorted(shares.items()))


def run(arguments: argparse.Namespace) -> int:
    """Compares; prints what changes, the most frequent first. Raises ConfigurationError for what cannot be read."""
    old, new = _Routes(Path(arguments.old)), _Routes(Path(arguments.new))
    calls = changed = apart = 0
    changes: Counter[_Change] = Counter()
    for call in read(Path(arguments.traffic)):
        if not call.host:
            apart += call.count
            continue
        calls += call.count
        before, after = old.way(call), new.way(call)
        if before != after:
            changed += call.count
            changes[call.host, call.method, before, after] += call.count
    rows = [(str(count), *change) for change, count in changes.most_common()]
    if arguments.output == "json":
        listed = [{**dict(zip(_COLUMNS, row, strict=True)), "calls": int(row[0])} for row in rows]
        say(json.dumps({"calls": calls, "changed": changed, "not_here": apart, "changes": listed}, indent=2))
        return OK
    others = f"; {apart} to targets that are not of this control plane are left out" if apart else ""
    say(f"{calls} calls, {changed} would go elsewhere{others}")
    if rows:
        table(rows, _COLUMNS)
    return OK
