"""`meshsdk run`: weaves the mesh into an unchanged grpcio program. The top of the SDK; nothing imports it.

`command` starts the program; `start/sitecustomize` runs first inside it and calls `weaving.weave` when grpc is
imported. From then on grpc's own `insecure_channel`, `secure_channel` and `server` (and those of `grpc.aio`) give
channels and servers that are part of the mesh as long as `switch` says so.
"""
