"""The process that registers a gunicorn on its behalf: one instance for all its workers.

Started by `gunicorn_hooks` as a process of its own, because the arbiter forks workers as long as it lives, and what has
gRPC's threads cannot be forked safely. Reads `drain` and `stop` on standard input, whose end means that the
arbiter is gone; says `over` when it has left the registry.
"""

from __future__ import annotations

import json
import logging
import signal
import sys
import threading

from meshsdk.errors import MeshError
from meshsdk.lifecycle.drain import DrainTiming
from meshsdk.lifecycle.service import Service
from meshsdk.lifecycle.web.announce import announce
from meshsdk.lifecycle.web.shared_activity import SharedActivity

_TICK = 0.05  # seconds between looks for the first worker


def main() -> int:
    """Runs until it has drained."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # a terminal and a supervisor signal the whole group: the arbiter decides
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="[%(levelname)s] meshsdk: %(message)s")
    arguments = json.loads(sys.argv[1])
    activity = SharedActivity(arguments["descriptor"])
    drain = DrainTiming(**arguments["drain"])
    try:
        service = announce(activity=activity, drain=drain, handle_signals=False, ready=False, **arguments["instance"])
    except MeshError as error:
        sys.stderr.write(f"meshsdk: this server is not registered: {error}\n")
        return 1
    threading.Thread(target=_when_booted, args=(service, activity), daemon=True).start()
    for line in sys.stdin:
        if line.strip() == "stop":
            break
        if line.strip() == "drain":
            service.drain(wait=False)
            threading.Thread(target=_tell_end, args=(service,), daemon=True).start()
    service.stop()
    return 0


def _when_booted(service: Service, activity: SharedActivity) -> None:
    while not activity.booted:
        if service.wait(_TICK):
            return
    service.ready()


def _tell_end(service: Service) -> None:
    service.wait()
    sys.stdout.write("over\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
