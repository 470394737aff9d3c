"""A web application as WSGI (`application`) and ASGI (`asgi`), and itself a program that runs it under uvicorn.

Arguments of the program: port, address to register, quiet seconds.
"""

from __future__ import annotations

import asyncio
import sys
import time

import uvicorn

from meshsdk.lifecycle.drain import DrainTiming
from meshsdk.lifecycle.web.uvicorn_hooks import MeshServer


def application(environ, start_response):
    """Answers with the path."""
    time.sleep(0.005)
    body = environ["PATH_INFO"].encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


async def asgi(scope, receive, send):
    """The same for ASGI."""
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    await asyncio.sleep(0.005)
    body = scope["path"].encode()
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def main() -> None:
    """Runs under uvicorn until it is told to stop."""
    config = uvicorn.Config(asgi, port=int(sys.argv[1]), log_level="warning")
    MeshServer(config, app="web", address=sys.argv[2], drain=DrainTiming(quiet=float(sys.argv[3]))).run()


if __name__ == "__main__":
    main()
