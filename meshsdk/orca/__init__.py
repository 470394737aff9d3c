"""ORCA: what a server says of its load, for clients that balance by it (gRFC A51, xds.data.orca.v3).

    meshsdk.orca.recorder(context).application_utilization(0.4).qps(120)   # in a handler: goes with its answer

    load = meshsdk.orca.ServerLoad()                                       # for the whole server, from any thread
    meshsdk.orca.answer_with(server, load, min_interval=10)                # served out of band (OpenRcaService)

For servers of `grpc` and of `grpc.aio` alike.
"""

from __future__ import annotations

from meshsdk.orca.call_recorder import CallRecorder, recorder
from meshsdk.orca.server_load import ServerLoad
from meshsdk.orca.service import answer_with

__all__ = ["CallRecorder", "ServerLoad", "answer_with", "recorder"]
