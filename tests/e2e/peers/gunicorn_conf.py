"""gunicorn's configuration file of the web tests. MESHSDK_TEST_ADDRESS: the address to register and listen at."""

from __future__ import annotations

import os

from meshsdk.lifecycle.drain import DrainTiming
from meshsdk.lifecycle.web.gunicorn_hooks import GunicornHooks

bind = os.environ["MESHSDK_TEST_ADDRESS"]
workers = 2
control_socket_disable = True
globals().update(GunicornHooks(app="web", address=bind, drain=DrainTiming(quiet=0.5)).hooks())
