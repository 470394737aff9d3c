"""Five servers in one process that do what each request asks of them, and write down which attempts reached them.

Usage: backend.py NAME... - prints {NAME: port}, then answers each line of standard input, a prefix of call ids, with
{ID: [[seconds, NAME], ...]}: when and where each attempt arrived. The request is JSON, all of it optional but `id`:
`codes`, the status of each attempt on the call, the last one for all further ones; `pushback`, milliseconds that a
failure asks to be waited; `bad`, {NAME: status} of servers that fail, `at_times`: of those that do every fourth time;
`seconds` the answer takes, or `late`, only the first one; `load`, {NAME: utilization} that is reported with the answer
(ORCA), at 100 calls a second.
"""

from __future__ import annotations

import itertools
import json
import sys
import threading
import time
from collections import defaultdict
from concurrent import futures
from typing import Any

import grpc

from meshsdk import orca

_AT_TIMES = 4
_LOCK = threading.Lock()
_ARRIVED: dict[str, list[tuple[float, str]]] = defaultdict(list)  # guarded by _LOCK


class Server(grpc.GenericRpcHandler):
    """Answers any method with its name."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._asked = itertools.count()

    def service(self, handler_call_details):
        """Handles every method alike."""
        return grpc.unary_unary_rpc_method_handler(self._answer)

    def _answer(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        asked: dict[str, Any] = json.loads(request)
        with _LOCK:
            attempts = _ARRIVED[asked["id"]]
            attempts.append((time.monotonic(), self._name))
            nth = len(attempts)
        time.sleep(asked.get("seconds", asked.get("late", 0.0) if nth == 1 else 0.0))
        codes = asked.get("codes", ["OK"])
        code = asked.get("bad", {}).get(self._name) or (
            asked.get("at_times", {}).get(self._name) if next(self._asked) % _AT_TIMES == 0 else None
        )
        code = code or codes[min(nth, len(codes)) - 1]
        if code != "OK":
            if "pushback" in asked:
                context.set_trailing_metadata((("grpc-retry-pushback-ms", asked["pushback"]),))
            context.abort(grpc.StatusCode[code], f"as asked, attempt {nth}")
        if self._name in asked.get("load", {}):
            orca.recorder(context).qps(100.0).application_utilization(asked["load"][self._name])
        return self._name.encode()


def main() -> None:
    """Serves until standard input ends."""
    ports, servers = {}, []
    for name in sys.argv[1:]:
        server = grpc.server(futures.ThreadPoolExecutor(64), handlers=[Server(name)])
        ports[name] = server.add_insecure_port("127.0.0.1:0")
        server.start()
        servers.append(server)
    print(json.dumps(ports), flush=True)
    for line in sys.stdin:
        prefix = line.strip()
        with _LOCK:
            found = {call: attempts for call, attempts in _ARRIVED.items() if call.startswith(prefix)}
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
