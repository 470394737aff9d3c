"""Puts a shim's rules into the kernel and takes them out: each time one transaction, of nft or else of iptables.

Called by `intercepting`. Works in the network namespace of this process and in a table, or chains, of the shim's own:
no rule of anyone else is touched. Needs CAP_NET_ADMIN.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from typing import Protocol, final

from meshsdk.errors import LifecycleError
from meshsdk.shim.intercept import rules as text
from meshsdk.shim.intercept.rules import Rules

_PATIENCE = 20.0  # seconds for one command
_LONGEST = 200  # characters of a complaint
_WAYS = "/usr/sbin:/sbin:/usr/local/sbin"  # a user's PATH may lack them


class InterceptionRefused(LifecycleError):
    """The rules are as they were; says why."""


class Backend(Protocol):
    """One way to the kernel's tables. Every method raises InterceptionRefused, having changed nothing."""

    name: str

    def apply(self, rules: Rules) -> None:
        """Puts `rules` in place of those of the same name, in one step."""

    def remove(self, name: str) -> None:
        """Leaves none of that name; there may be none."""

    def count(self, name: str) -> tuple[int, int]:
        """Returns how many redirects of calls out and of calls in are in force."""


@final
class Nft:
    """nftables, in the table `inet NAME`."""

    name = "nft"

    def __init__(self, path: str) -> None:
        self._path = path

    def apply(self, rules: Rules) -> None:
        """See Backend."""
        _run([self._path, "-f", "-"], text.nft_script(rules))

    def remove(self, name: str) -> None:
        """See Backend."""
        _run([self._path, "-f", "-"], text.nft_removal(name))

    def count(self, name: str) -> tuple[int, int]:
        """See Backend."""
        if f"table inet {name}" not in _run([self._path, "list", "tables"]).splitlines():
            return 0, 0
        return text.nft_redirects(_run([self._path, "list", "table", "inet", name]))


@final
class Iptables:
    """iptables and ip6tables, in chains `NAME_out` and `NAME_in` of the table nat.

    A transaction is of one IP version: with listeners of both, IPv4 comes first and goes again if IPv6 fails.
    """

    def __init__(self, variant: str, environ: Mapping[str, str]) -> None:
        """`variant`: "", "-nft" or "-legacy"."""
        self.name = f"iptables{variant}"
        self._commands = {
            version: (
                _found(f"{prefix}tables{variant}", environ),
                _found(f"{prefix}tables{variant}-restore", environ),
            )
            for version, prefix in ((4, "ip"), (6, "ip6"))
        }

    def apply(self, rules: Rules) -> None:
        """See Backend."""
        used = {one.version for one in (*rules.outbound, *rules.inbound)}
        done = []
        try:
            for version in sorted(used):
                self._restore(version, text.iptables_script(rules, version, self._present(version)))
                done.append(version)
        except InterceptionRefused:
            for version in done:
                self._remove(version, rules.name)
            raise
        for version in set(self._commands) - used:
            self._remove(version, rules.name)

    def remove(self, name: str) -> None:
        """See Backend."""
        for version in self._commands:
            self._remove(version, name)

    def count(self, name: str) -> tuple[int, int]:
        """See Backend."""
        outbound = inbound = 0
        for version in self._commands:
            present = self._present(version)
            outbound += text.iptables_redirects(present, f"{name}_out")
            inbound += text.iptables_redirects(present, f"{name}_in")
        return outbound, inbound

    def _remove(self, version: int, name: str) -> None:
        if script := text.iptables_removal(name, self._present(version)):
            self._restore(version, script)

    def _present(self, version: int) -> str:
        command = self._commands[version][0]
        if command is None:
            return ""
        try:
            return _run([command, "-w", "-t", "nat", "-S"])
        except InterceptionRefused:
            if version == 4:  # noqa: PLR2004 - of IP
                raise
            return ""  # a machine without IPv6

    def _restore(self, version: int, script: str) -> None:
        command = self._commands[version][1]
        if command is None:
            raise InterceptionRefused(f"{self.name} for IPv{version} is not installed")
        _run([command, "-w", "--noflush"], script)


def backend(wanted: str, environ: Mapping[str, str] = os.environ) -> Backend:
    """Returns the way to the kernel: `nft`, `iptables`, `iptables-nft`, `iptables-legacy`; `auto`: what works.

    Raises InterceptionRefused.
    """
    problems = []
    for name in ("nft", "iptables", "iptables-legacy") if wanted == "auto" else (wanted,):
        path = _found(name, environ)
        if path is None:
            problems.append(f"{name} is not installed")
            continue
        made: Backend = Nft(path) if name == "nft" else Iptables(name.removeprefix("iptables"), environ)
        try:
            made.count("meshsdk_shim")  # asks the kernel
        except InterceptionRefused as error:
            problems.append(str(error))
        else:
            return made
    raise InterceptionRefused(f"connections cannot be intercepted here: {'; '.join(problems)}")


def put(way: Backend, rules: Rules) -> None:
    """Puts rules in force and looks whether they are; there may be none. Raises InterceptionRefused.

    Then what was in force before may be out, and it is for the caller to put it back. Connections that were
    redirected before stay so; only `remove` may end them.
    """
    way.apply(rules)
    wanted = redirects(way, rules)
    if (found := way.count(rules.name)) != wanted:
        way.remove(rules.name)
        raise InterceptionRefused(
            f"{way.name} took {sum(wanted)} redirects, and {sum(found)} are in force: something removes them"
        )


def redirects(way: Backend, rules: Rules) -> tuple[int, int]:
    """Returns what `count` is to say when `rules` are in force."""
    outbound, inbound = (
        sum(1 if way.name == "nft" else max(1, len(one.networks)) for one in side)
        for side in (rules.outbound, rules.inbound)
    )
    return outbound, inbound


def _found(command: str, environ: Mapping[str, str]) -> str | None:
    return shutil.which(command, path=f"{environ.get('PATH', '')}{os.pathsep}{_WAYS}")


def _run(command: list[str], script: str | None = None) -> str:
    try:
        done = subprocess.run(  # noqa: S603 - tools of the system, without a shell; every word was checked
            command, input=script, capture_output=True, text=True, timeout=_PATIENCE, check=False
        )
    except subprocess.TimeoutExpired:
        raise InterceptionRefused(f"{command[0]} gives no answer within {_PATIENCE:g} s") from None
    except OSError as error:
        raise InterceptionRefused(f"{command[0]}: {error.strerror or error}") from None
    if done.returncode != 0:
        complaint = " ".join(done.stderr.split())[:_LONGEST] or f"exit code {done.returncode}"
        right = "; it needs CAP_NET_ADMIN" if "ermi" in complaint else ""
        raise InterceptionRefused(f"{command[0]}: {complaint}{right}")
    return done.stdout
