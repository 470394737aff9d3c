"""One watch of instances in Kubernetes: slices and pods, assembled and mirrored. Called by `registry`.

Slices arrive on the watch's thread, news of pods on the table's; a lock makes one sequence of them. Nothing is told
before the slices are listed, and the first telling waits a moment for the pods, so that labels do not come in later.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from meshsdk.discovery.following import Following
from meshsdk.discovery.kubernetes.api import ApiServer, JsonObject
from meshsdk.discovery.kubernetes.assembly import Assembly, Entry, instance_of
from meshsdk.discovery.kubernetes.place import Place
from meshsdk.discovery.kubernetes.pods import PodTable
from meshsdk.discovery.kubernetes.reflector import Collection, Reflector
from meshsdk.discovery.kubernetes.slices import SERVICE, slice_of
from meshsdk.discovery.mirror import Mirror
from meshsdk.model.instance import Increment

SLICES = "/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices"
_PODS_WAIT = 5.0  # seconds for the first list of pods; without it the endpoints are told as they are


class SlicesWatch:
    """Implements `meshsdk.discovery.registry.Watch`. Starts nothing before `start`."""

    def __init__(
        self, api: ApiServer, place: Place, pods: PodTable, watched: tuple[str, str], told: Callable[[Increment], None]
    ) -> None:
        """`watched`: application and unit, as in `Feed.watch`."""
        app, unit = watched
        self._port = place.port
        self._pods = pods
        self._lock = threading.Lock()
        self._assembly = Assembly(pods.find)  # guarded by _lock
        self._mirror: Mirror[Entry] = Mirror(place.words, app, unit, instance_of, told)  # guarded by _lock
        self._listed = False  # guarded by _lock
        selector = f"{SERVICE}={app}" if app else SERVICE
        collection = Collection(SLICES.format(place.namespace), selector)
        reflector = Reflector(api, collection, self._replace, self._change)
        self._following = Following(f"watch of app {app!r} at {place.words}", reflector.follow)

    @property
    def live(self) -> bool:
        """Whether it has not been cancelled."""
        return self._following.live

    @property
    def problem(self) -> str:
        """Why the slices are not followed at present, "" while they are."""
        return self._following.problem

    @property
    def skipped(self) -> int:
        """How many entries cannot be used at present."""
        return self._mirror.skipped

    def start(self) -> SlicesWatch:
        """Starts to follow; returns itself."""
        self._pods.attach(self._pods_changed)
        self._following.start()
        return self

    def cancel(self) -> None:
        """See `Watch`."""
        self._pods.detach(self._pods_changed)
        self._following.cancel()

    def join(self, timeout: float) -> None:
        """Waits at most `timeout` seconds for the thread of a cancelled watch; at once on that thread itself."""
        self._following.join(timeout)

    def _replace(self, items: Mapping[str, JsonObject]) -> None:
        slices = [slice_of(name, item, self._port) for name, item in items.items()]
        self._pods.wait(_PODS_WAIT)
        with self._lock:
            self._listed = True
            self._mirror.reset(self._assembly.replace(slices))

    def _change(self, put: Mapping[str, JsonObject], removed: list[str]) -> None:
        slices = [slice_of(name, item, self._port) for name, item in put.items()]
        with self._lock:
            self._mirror.change(*self._assembly.change(slices, removed))

    def _pods_changed(self, names: frozenset[str]) -> None:
        with self._lock:
            if self._listed:
                self._mirror.change(*self._assembly.pods_changed(names))
