"""The machine a run is about, and what Linux tells of a process: CPU time used and memory held."""

from __future__ import annotations

import datetime as dt
import os
import platform
import re
import subprocess
import time
from pathlib import Path

import grpc
import psutil

from benchmarks.envoy import executable

_CPU_CLOCK = 2  # CPUCLOCK_SCHED of <linux/posix-timers.h>: all threads of a process, also those that have ended


def describe() -> str:
    """Returns one line: cores, CPU, memory, versions, load, date."""
    found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace"))
    answer = subprocess.run([executable(), "--version"], capture_output=True, text=True, check=True, timeout=30).stdout
    envoy = re.search(r"/(\d+\.\d+\.\d+)/", answer)
    return (
        f"{os.cpu_count()} x {found[1] if found else platform.machine()}, "
        f"{psutil.virtual_memory().total / 2**30:.0f} GB; {platform.system()} {platform.release()}; "
        f"Python {platform.python_version()}, grpcio {grpc.__version__}, "
        f"Envoy {envoy[1] if envoy else answer.strip()}; load at start {os.getloadavg()[0]:.1f}; "
        f"{dt.datetime.now(dt.timezone.utc):%Y-%m-%d %H:%M} UTC"
    )


def cpu_seconds(pid: int) -> float:
    """Returns the CPU time that a process has used so far, all threads, in nanosecond steps."""
    return time.clock_gettime((~pid << 3) | _CPU_CLOCK)


def settle(pid: int, window: float = 0.01, patience: float = 60.0) -> None:
    """Waits until a process is idle: it used less than a twentieth of `window` (seconds) in one window."""
    deadline = time.monotonic() + patience
    before = cpu_seconds(pid)
    while time.monotonic() < deadline:
        time.sleep(window)
        now = cpu_seconds(pid)
        if now - before < window / 20:
            return
        before = now


def resident(pid: int) -> tuple[int, int]:
    """Returns (resident memory, memory that is the process's alone) in bytes."""
    found = psutil.Process(pid).memory_full_info()
    return found.rss, found.uss
