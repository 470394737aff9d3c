"""A server on grpcio that knows nothing of meshsdk, with an interceptor of its own and threads.

Argument: how it ends: `default`: as Python does at SIGTERM; `handler`: a handler set before the start stops the
server in good order and exits 7; `late`: the same, set after the start; `stop`: the program stops it when told to
(`stop GRACE`). Prints its port; commands `executed` and `seen` (by its interceptor) on standard input are answered
with JSON.
"""

import collections
import json
import signal
import sys
import threading
import time
from concurrent import futures

import grpc

EXECUTED = collections.Counter()
SEEN = collections.Counter()


class Counting(grpc.ServerInterceptor):
    """The application's own."""

    def intercept_service(self, continuation, handler_call_details):
        """See grpc."""
        SEEN["calls"] += 1
        return continuation(handler_call_details)


def note(request: bytes) -> bytes:
    """Executes a call."""
    EXECUTED[request.decode()] += 1
    time.sleep(0.005)
    return request


HANDLERS = {
    "unary_unary": grpc.unary_unary_rpc_method_handler(lambda request, _: note(request)),
    "unary_stream": grpc.unary_stream_rpc_method_handler(lambda request, _: iter([note(request)])),
    "stream_unary": grpc.stream_unary_rpc_method_handler(lambda requests, _: [*map(note, requests)][-1]),
    "stream_stream": grpc.stream_stream_rpc_method_handler(lambda requests, _: map(note, requests)),
}


def obey(server: grpc.Server, over: threading.Event) -> None:
    """Commands."""
    for line in sys.stdin:
        word, _, rest = line.strip().partition(" ")
        if word == "executed":
            print(json.dumps(EXECUTED), flush=True)
        elif word == "seen":
            print(json.dumps(SEEN["calls"]), flush=True)
        elif word == "stop":
            server.stop(float(rest)).wait()
            print(json.dumps("stopped"), flush=True)
            over.set()


def main(how: str) -> int:
    """Serves until it ends in the way asked for."""
    over = threading.Event()
    server = grpc.server(futures.ThreadPoolExecutor(16), interceptors=[Counting()])
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("shop.Orders", HANDLERS),))
    port = server.add_insecure_port("127.0.0.1:0")

    def terminate(number: int, frame: object) -> None:
        server.stop(5)
        over.set()

    if how == "handler":
        signal.signal(signal.SIGTERM, terminate)
    server.start()
    if how == "late":
        signal.signal(signal.SIGTERM, terminate)
        assert signal.getsignal(signal.SIGTERM) is terminate
    threading.Thread(target=obey, args=(server, over), daemon=True).start()
    print(port, flush=True)
    if how == "default":
        server.wait_for_termination()
        return 0
    over.wait()
    server.wait_for_termination()
    return 7


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
