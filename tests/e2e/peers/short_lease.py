"""`served.py` with a short lease, so that a killed instance is gone soon. Arguments: as there, and the lease (seconds).

The registry is the one of the bootstrap in the environment; no control plane is needed.
"""

from __future__ import annotations

import sys

from meshsdk.lifecycle import serve_aio, serve_sync
from tests.e2e.peers import served

if __name__ == "__main__":
    serve_sync.LEASE_SECONDS = serve_aio.LEASE_SECONDS = float(sys.argv[3])
    served.main()
