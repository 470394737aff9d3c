"""The end of a test session: what it left behind is named and ended, so that a run never outlives its last line.

Called by `conftest`. A process that a test forgot, or a thread that Python waits for at exit, would hold the run (and
whoever reads its output) for ever; here both are listed after the summary. Changes no result.
"""

from __future__ import annotations

import atexit
import faulthandler
import os
import signal
import sys
import threading
import time
from pathlib import Path

_MARK = "MESHSDK_TEST_SESSION"
_PATIENCE = 30.0  # seconds for threads and exit handlers


class Ending:
    """The end of this process's session. Used by pytest's main thread; `_status` is read by the watching thread too."""

    def __init__(self) -> None:
        """Marks the processes that will be started from here, and is asked last at exit."""
        self._mark = f"{_MARK}={os.getpid()}-{time.time_ns()}"
        os.environ[_MARK] = self._mark.partition("=")[2]
        self._status = 0
        self._pid = os.getpid()
        atexit.register(self._leave)

    def left_processes(self) -> list[str]:
        """Ends every process that was started in this session and still runs; returns their command lines."""
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == self._pid:
                continue
            try:
                marked = self._mark.encode() in (entry / "environ").read_bytes().split(b"\0")
                words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                if marked and words:  # none: it has ended and nobody has asked for its exit code
                    os.kill(int(entry.name), signal.SIGKILL)
                    found.append(f"process {entry.name}: {words[:200]}")
            except OSError:
                continue  # it ended meanwhile
        return found

    @staticmethod
    def left_threads() -> list[str]:
        """Returns the threads that Python will wait for before it exits."""
        others = (one for one in threading.enumerate() if one is not threading.main_thread() and not one.daemon)
        return [f"thread {one.name}" for one in others]

    def watch(self, status: int) -> None:
        """Ends the process with `status` should threads or exit handlers hold it; says where they were."""
        self._status = status
        threading.Thread(target=self._end_late, name="end-of-tests", daemon=True).start()

    def _end_late(self) -> None:
        time.sleep(_PATIENCE)
        print(
            f"\nstill here {_PATIENCE:.0f} s after the last test, ended; every thread:", file=sys.__stderr__, flush=True
        )
        faulthandler.dump_traceback(file=sys.__stderr__ or 2)
        os._exit(self._status)

    def _leave(self) -> None:
        """Skips the interpreter's finalization: thousands of channels and servers are taken down by the system."""
        if os.getpid() == self._pid:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(self._status)
