"""`meshsdk run`: a program that knows nothing of meshsdk calls through the mesh, by the host that it always called.

`plain_caller` calls `orders:50051`, which no DNS knows here; the control plane knows the service `orders`.

Run: python -m examples.unchanged_program
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import meshsdk.testing
from examples.orders_service import instance

RUN = "import sys; from meshsdk.cli import main; sys.exit(main())"  # the command `meshsdk`, installed or not


def main() -> None:
    """Runs the program as `meshsdk run -m examples.plain_caller`; it prints which instances answered its 20 calls."""
    with (
        meshsdk.testing.control_plane() as plane,
        instance(plane, "orders-1", "v1"),
        instance(plane, "orders-2", "v1"),
    ):
        environment = {**os.environ, "GRPC_XDS_BOOTSTRAP_CONFIG": json.dumps(plane.bootstrap("web"))}
        command = [sys.executable, "-c", RUN, "run", "-m", "examples.plain_caller"]
        subprocess.run(command, env=environment, check=True)


if __name__ == "__main__":
    main()
