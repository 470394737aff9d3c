"""Services of both kinds behind one face: what the contract of `serve` runs on.

`Served` starts a server of `server_drivers.Scripted` handlers with `meshsdk.lifecycle`'s serve, sync on this thread or
asyncio on a loop of its own, and offers what a test does with it as plain blocking calls.
"""

from __future__ import annotations

import asyncio
from concurrent import futures

import grpc
import grpc.aio

from meshsdk.interceptors import server_aio, server_sync
from meshsdk.lifecycle import serve_aio, serve_sync
from meshsdk.lifecycle.drain import DrainTiming
from tests.contract.server_drivers import SERVICE, DaemonPool, Running, Scripted, loop_thread

QUICK = DrainTiming(quiet=0.2, timeout=10.0, announce=0.5, deregister=0.5, grace=0.5)
LOCAL = (("grpc.use_local_subchannel_pool", 1),)


class SyncServed(Running):
    """A served grpc.server."""

    handler_kinds = ("plain",)

    def __init__(self, *, drain=QUICK, intercepted=True, started=False, prepare=None, **options) -> None:
        self.scripted = Scripted()
        interceptors = server_sync.server_interceptors() if intercepted else []
        self.server = grpc.server(futures.ThreadPoolExecutor(8), interceptors=interceptors)
        handlers = self._handlers(options.pop("handlers", Scripted.plain_handlers))
        self.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        if prepare:
            prepare(self.server)
        self.port = self.server.add_insecure_port("127.0.0.1:0")
        if started:
            self.server.start()
        self.service = serve_sync.serve(
            self.server,
            app="orders",
            address=f"127.0.0.1:{self.port}",
            drain=drain,
            handle_signals=False,
            **options,
        )
        self.activity = interceptors[0].activity if interceptors else None
        self.channel = grpc.insecure_channel(f"127.0.0.1:{self.port}", LOCAL)

    def _handlers(self, handlers):
        return handlers(self.scripted) if callable(handlers) else handlers

    def wait_online(self) -> None:
        """Waits until the registry holds it ONLINE."""
        assert self.service.wait_online(20)

    def drain(self, *, wait=True) -> None:
        """Drains."""
        self.service.drain(wait=wait)

    def stop(self) -> None:
        """Stops."""
        self.service.stop()

    def wait(self) -> None:
        """Waits for the end."""
        assert self.service.wait(20)

    def ready(self) -> None:
        """Says that the application is ready."""
        self.service.ready()

    def cycle(self, change, labels=None) -> bool:
        """Goes offline and online again."""
        return self.service.cycle(change, labels)

    def stop_server(self) -> None:
        """Stops the server behind the service's back."""
        self.server.stop(None).wait()

    def close(self) -> None:
        """Ends everything."""
        self.scripted.gate.set()
        self.service.stop()
        self.channel.close()


class AioServed(SyncServed):
    """A served grpc.aio.server, on a loop of its own."""

    handler_kinds = ("plain", "awaited")

    def __init__(self, *, drain=QUICK, intercepted=True, started=False, prepare=None, **options) -> None:
        self.scripted = Scripted()
        self._thread = loop_thread()
        self._loop = self._thread.__enter__()
        handlers = self._handlers(options.pop("handlers", Scripted.async_handlers))

        async def start():
            interceptors = server_aio.server_interceptors() if intercepted else []
            self.server = grpc.aio.server(DaemonPool(), interceptors=interceptors)
            self.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
            if prepare:
                prepare(self.server)
            self.port = self.server.add_insecure_port("127.0.0.1:0")
            if started:
                await self.server.start()
            self.service = serve_aio.serve(
                self.server,
                app="orders",
                address=f"127.0.0.1:{self.port}",
                drain=drain,
                handle_signals=False,
                **options,
            )
            self.activity = interceptors[0].activity if interceptors else None
            await self.service.__aenter__()

        try:
            self._run(start())
        except BaseException:  # what serve refuses: nobody will close this one
            self._thread.__exit__(None, None, None)
            raise
        self.channel = grpc.insecure_channel(f"127.0.0.1:{self.port}", LOCAL)

    def _run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(20)

    def wait_online(self) -> None:
        """Waits until the registry holds it ONLINE."""
        assert self._run(self.service.wait_online(20))

    def drain(self, *, wait=True) -> None:
        """Drains."""
        self._run(self.service.drain(wait=wait))

    def stop(self) -> None:
        """Stops."""
        self._run(self.service.stop())

    def wait(self) -> None:
        """Waits for the end."""
        self._run(self.service.wait())

    def ready(self) -> None:
        """Says that the application is ready."""
        self._loop.call_soon_threadsafe(self.service.ready)

    def cycle(self, change, labels=None) -> bool:
        """Goes offline and online again."""
        return self._run(self.service.cycle(lambda: asyncio.to_thread(change), labels))

    def stop_server(self) -> None:
        """Stops the server behind the service's back."""
        self._run(self.server.stop(None))

    def close(self) -> None:
        """Ends everything."""
        self.scripted.gate.set()
        self._run(self.service.__aexit__(None, None, None))
        self.channel.close()
        self._thread.__exit__(None, None, None)
