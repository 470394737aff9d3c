"""Where a call goes, and why: routes, policies with where each comes from, filters, and the state of every endpoint.

Made for `meshsdk explain`, by a live process over its admin socket or by the command itself. Reads what calls read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from meshsdk.channel.endpoint_states import endpoint_states
from meshsdk.channel.stack import Target
from meshsdk.errors import ConfigurationError
from meshsdk.routing.explained import Decision, DescribedCall, Taken, decide, label
from meshsdk.sight.effective import Effective, filters, policies
from meshsdk.sight.meshes import engines
from meshsdk.sight.reaching import explain_failures

_MAX_ITEMS = 256  # metadata, or fields, of the call that is asked about


def explanation(asked: Mapping[str, Any]) -> dict[str, object]:
    """Returns the answer of this process, from every mesh that uses the target.

    `asked` has `target`, `method`, `metadata` (pairs) and `fields` (lists of texts by dotted path, or None). Raises
    ConfigurationError for what is no such question, and where no channel of the process has the target.
    """
    target = str(asked.get("target", ""))
    call = described(asked)
    found = [one for engine in engines() for one in explained(engine, target, call)]
    if not found:
        known = sorted({one.name for engine in engines() for scope in engine.scopes() for one in scope.targets()})
        raise ConfigurationError(f"no channel to {target!r} is open here; open are: {', '.join(known) or 'none'}")
    explain_failures(found)
    return {"target": target, "method": call.method, "views": found}


def described(asked: Mapping[str, Any]) -> DescribedCall:
    """Reads the call that a question is about. Raises ConfigurationError."""
    method, metadata, fields = asked.get("method"), asked.get("metadata", []), asked.get("fields")
    if not (isinstance(method, str) and method.startswith("/") and method.count("/") == 2):  # noqa: PLR2004 - /S/M
        raise ConfigurationError(f"the method is {str(method)[:80]!r}; give /package.Service/Method")
    if not isinstance(metadata, list) or len(metadata) > _MAX_ITEMS or not all(map(_is_pair, metadata)):
        raise ConfigurationError(f"metadata: give a list of at most {_MAX_ITEMS} pairs [key, value] of texts")
    if fields is not None and (not isinstance(fields, dict) or len(fields) > _MAX_ITEMS):
        raise ConfigurationError(f"fields: give an object of at most {_MAX_ITEMS}: path to a list of texts")
    for path, texts in (fields or {}).items():
        if not isinstance(texts, list):
            raise ConfigurationError(f"fields: {path[:80]!r} is {str(texts)[:80]!r}; give a list of texts")
    return DescribedCall(
        method,
        tuple((str(key).lower(), str(value)) for key, value in metadata),
        None if fields is None else {str(path): tuple(map(str, texts)) for path, texts in fields.items()},
    )


def _is_pair(given: object) -> bool:
    return isinstance(given, list) and len(given) == 2 and all(isinstance(part, str) for part in given)  # noqa: PLR2004


def explained(engine: Any, name: str, call: DescribedCall) -> Iterable[dict[str, object]]:
    """Yields what each scope of a mesh does with the call: threads share one, every event loop has its own."""
    for scope in engine.scopes():
        for target in scope.targets():
            if target.name == name:
                with scope.lock:
                    yield _view(target, call, scope, engine.bootstrap.node.id, engine.progress(name))


def _view(target: Target, call: DescribedCall, scope: Any, node: str, progress: str) -> dict[str, object]:
    routes = target.routes
    seen: dict[str, object] = {"node": node, "scope": type(scope).__name__}
    if routes is None:
        return {**seen, "problem": target.hold.problem or progress, "routes": [], "ways": []}
    decision = decide(routes.snapshot.virtual_host, call)
    return {
        **seen,
        "problem": "",
        "version": routes.snapshot.version,
        "routes": _routes(decision),
        "ways": [_way(target, way, call, decision, scope.clock.monotonic()) for way in decision.taken],
    }


def _routes(decision: Decision) -> list[dict[str, object]]:
    return [{"route": label(one.route), "share": one.share, "reasons": list(one.reasons)} for one in decision.verdicts]


def _way(target: Target, way: Taken, call: DescribedCall, decision: Decision, now: float) -> dict[str, object]:
    routes = target.routes
    told: dict[str, object] = {"route": way.route, "cluster": way.cluster, "share": way.share, "problem": way.problem}
    if routes is None or not way.cluster:
        return told
    route = decision.verdicts[way.place].route
    balancer = routes.balancer(way.cluster)
    if balancer is None:
        broken = routes.snapshot.clusters.get(way.cluster)
        return {**told, "problem": getattr(broken, "problem", f"cluster {way.cluster} is not configured")}
    facts = Effective(routes.snapshot, route, balancer.cluster, call.method)
    plan = next((one for one in routes.table.routes if one.route is route), None)
    destination = next((one for one in plan.destinations if one.cluster == way.cluster), None) if plan else None
    return {
        **told,
        "policies": [asdict(one) for one in policies(facts)],
        "filters": [] if destination is None else filters(facts, destination),
        "breakers": _breakers(target, balancer.cluster.leaves),
        "endpoints": [asdict(one) for one in endpoint_states(balancer, now)],
    }


def _breakers(target: Target, leaves: Iterable[Any]) -> list[dict[str, object]]:
    names = {leaf.cluster.name for leaf in leaves}
    return [
        {
            "cluster": one.cluster,
            "priority": "HIGH" if one.high else "DEFAULT",
            "running": one.running,
            "limit": one.limit,
            "waiting": one.pending,
            "retries": one.retries,
            "refused": one.refused,
        }
        for one in target.shared.breakers
        if one.cluster in names
    ]
