"""Consul as a registry: instances are services with a check of their time to live, the rest are keys (`entries`).

Opened by `open_registry` for `consul://` URLs. Registers with the agent it is given, which should be the one of its own
machine, as Consul wants it; reads through the same agent. Form of the services: `records`.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace

from meshsdk.discovery import entries, limits
from meshsdk.discovery.consul import records
from meshsdk.discovery.consul.agent import Agent, NotFound, segment
from meshsdk.discovery.consul.every_service import follow_every_service
from meshsdk.discovery.consul.one_service import follow_service
from meshsdk.discovery.following import Following
from meshsdk.discovery.mirror import Mirror
from meshsdk.discovery.registry import Lease, LeaseLapsed, MalformedEntry
from meshsdk.discovery.watches import Watches
from meshsdk.errors import RegistryError
from meshsdk.model.instance import Increment, Instance, InstanceState, Revision

_LOG = logging.getLogger("meshsdk.discovery")
_MAX_VALUE = 512 * 1024  # bytes of a key's value, Consul's limit
_CLOSING = 1.0  # seconds that `close` waits for a watch under way


@dataclass(frozen=True, slots=True)
class _Held:
    """A registration of this process. The check's id is new with each one: it tells a later one from it."""

    instance: Instance
    check: str
    ttl: float
    renewed_at: float  # when the agent was last asked to prolong it, and did


class ConsulRegistry:
    """Implements `meshsdk.discovery.registry.Registry` at `agent`, which it owns and closes."""

    def __init__(self, agent: Agent, now: Callable[[], float] = time.monotonic) -> None:
        self._agent = agent
        self._layout = entries.Layout(agent.place.prefix)
        self._now = now
        self._lock = threading.Lock()
        self._held: dict[str, _Held] = {}  # by lease id; guarded by _lock
        self._watches: Watches[Following] = Watches(agent.name)

    # -- instances --------------------------------------------------------------------------------------------------

    def register(self, instance: Instance, ttl: float) -> Lease:
        """See `Registrar`. RegistryError also for what does not fit into Consul's metadata."""
        if problem := limits.instance_problem(instance):
            raise RegistryError(problem)
        check = f"{records.service_id(instance)}/{uuid.uuid4().hex[:12]}"
        held = _Held(instance, check, ttl, self._now())
        self._write(held)
        with self._lock:
            self._held[check] = held
        return Lease(check, ttl)

    def renew(self, lease: Lease) -> Lease:
        """See `Registrar`. A lease that ran out has lapsed, though Consul would take the check up again."""
        held = self._holding(lease)
        now = self._now()
        self._pass(lease, held)
        with self._lock:
            if lease.id in self._held:
                self._held[lease.id] = replace(held, renewed_at=now)
        return lease

    def set_state(self, lease: Lease, state: InstanceState) -> None:
        """See `Registrar`. Consul changes a service only as a whole: it is registered again, with the same check."""
        held = self._holding(lease)
        now = self._now()
        self._pass(lease, held)
        changed = replace(held, instance=replace(held.instance, state=state), renewed_at=now)
        self._write(changed)
        with self._lock:
            if lease.id in self._held:
                self._held[lease.id] = changed

    def deregister(self, lease: Lease) -> None:
        """See `Registrar`."""
        with self._lock:
            held = self._held.get(lease.id)
        if held is None:
            return
        try:
            self._pass(lease, held)  # is the service still the one that was registered?
            self._agent.ask("PUT", f"/v1/agent/service/deregister/{segment(records.service_id(held.instance))}")
        except (LeaseLapsed, NotFound) as error:
            _LOG.debug("lease %s was gone before it was given back: %s", lease.id, error)
        self._forget(lease)

    def _write(self, held: _Held) -> None:
        body = records.registration(held.instance, held.check, held.ttl, self._agent.place.deregister_after)
        self._agent.ask("PUT", "/v1/agent/service/register", {"replace-existing-checks": "true"}, body)

    def _pass(self, lease: Lease, held: _Held) -> None:
        """Has the check pass for another ttl; LeaseLapsed, and the lease is forgotten, where the check is gone."""
        body = f'{{"Status": "{records.status_of(held.instance.state)}"}}'.encode()
        try:
            self._agent.ask("PUT", f"/v1/agent/check/update/{segment(held.check)}", body=body)
        except NotFound:
            self._forget(lease)
            raise LeaseLapsed(f"{self._agent.name} does not know the check {held.check}") from None

    def _holding(self, lease: Lease) -> _Held:
        with self._lock:
            held = self._held.get(lease.id)
            if held is not None and self._now() - held.renewed_at >= held.ttl:
                del self._held[lease.id]
                held = None
        if held is None:
            raise LeaseLapsed(f"lease {lease.id!r} is unknown or ran out")
        return held

    def _forget(self, lease: Lease) -> None:
        with self._lock:
            self._held.pop(lease.id, None)

    # -- revisions --------------------------------------------------------------------------------------------------

    def publish_revision(self, revision: Revision) -> None:
        """See `Catalog`. The revision itself is written last: where it is, its services are mapped."""
        if problem := limits.revision_problem(revision):
            raise RegistryError(problem)
        key, text = self._layout.revision(revision.app, revision.revision), entries.revision_to_text(revision)
        if len(text) > _MAX_VALUE:
            raise RegistryError(f"revision {revision.revision!r} has {len(text)} bytes, Consul takes {_MAX_VALUE}")
        if self._value(key) == text:
            return
        for service in entries.services_of(revision):
            self._agent.ask("PUT", _path(self._layout.service(service, revision.app)), self._where(), b"")
        self._agent.ask("PUT", _path(key), self._where(), text)

    def get_revision(self, app: str, revision: str) -> Revision | None:
        """See `Catalog`. MalformedEntry with the key for one that others left and that cannot be read."""
        key = self._layout.revision(app, revision)
        text = self._value(key)
        if text is None:
            return None
        try:
            return entries.revision_from_text(text)
        except MalformedEntry as error:
            raise MalformedEntry(f"{self._agent.name}: key {key[1:]!r}: {error}") from None

    def map_service(self, service: str) -> tuple[str, ...]:
        """See `Catalog`."""
        try:
            answer = self._agent.ask(
                "GET", _path(self._layout.services(service)), {**self._agent.reads(), "keys": ""}
            ).json()
        except NotFound:
            return ()
        keys = answer if isinstance(answer, list) else []
        return tuple(sorted(entries.last_segment(str(key)) for key in keys))

    def _value(self, key: str) -> bytes | None:
        try:
            return self._agent.ask("GET", _path(key), {**self._agent.reads(), "raw": ""}).body
        except NotFound:
            return None

    def _where(self) -> dict[str, str]:
        return {"dc": self._agent.place.dc} if self._agent.place.dc else {}

    # -- watches ----------------------------------------------------------------------------------------------------

    def watch(self, app: str, unit: str, on_increment: Callable[[Increment], None]) -> Following:
        """See `Feed`. Called on a thread of the watch."""
        mirror = Mirror(self._agent.name, app, unit, _decode, on_increment)

        def follow(following: Following) -> None:
            if app:
                follow_service(self._agent, app, unit, mirror, following)
            else:
                follow_every_service(self._agent, mirror, following)

        words = f"watch of {f'app {app!r}' if app else 'all apps'} at {self._agent.name}"
        return self._watches.begin(Following(words, follow, skipped=lambda: mirror.skipped))

    def close(self) -> None:
        """See `Registry`."""
        watches = self._watches.close()
        self._agent.close()
        for watch in watches:
            watch.join(_CLOSING)


def _decode(_: str, entry: records.Entry) -> Instance:
    return records.instance_of(entry)


def _path(key: str) -> str:
    """Returns where a key is in the API. Keys of `entries` begin with "/", Consul's do not."""
    return "/v1/kv/" + "/".join(segment(part) for part in key.removeprefix("/").split("/"))
