"""Builds the root file system of a Containerfile without a container engine, and looks into it. Needs root.

    python scripts/rootfs.py deploy/Containerfile .cache/rootfs [--check]

`make image` calls it. The base image is Debian's minimal system, made once by debootstrap. Understood is what the
shim's Containerfile uses: ARG, FROM, RUN, COPY, ENV, USER, ENTRYPOINT. Each RUN has a mount and a process namespace of
its own, so that nothing stays mounted. `--check` starts what is in the file system, as its user.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

_SUITE = "bookworm"
_ENVOY = """
import subprocess, meshsdk.shim.envoy.executable as found
print(subprocess.check_output([found.default_executable(), "--version"], text=True))
"""
_UNWANTED = ("usr/bin/gcc", "usr/bin/make", "source", "usr/sbin/setcap")
_AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")
_INSIDE = 'mount -t proc proc "$0/proc" && mount --bind "$1" "$0/mnt" && shift && exec chroot "$0" "$@"'


@dataclass
class Stage:
    """One FROM: its root and what the instructions have set so far."""

    root: Path
    environment: dict[str, str] = field(default_factory=dict)
    user: str = "0:0"
    entrypoint: Sequence[str] = ()


def instructions(text: str) -> list[tuple[str, str]]:
    """Returns the instructions, lines that end with a backslash joined, without comments."""
    kept = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    lines = re.sub(r"\\\n\s*", "", kept).splitlines()
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in lines) if word]


class Builder:
    """Builds stage after stage. Used by one thread."""

    def __init__(self, context: Path, folder: Path) -> None:
        self._context = context
        self._folder = folder
        self._stages: dict[str, Stage] = {}
        self._given = folder / "given"  # shown to RUN as /mnt: what the build machine needs to reach registries
        self._given.mkdir(parents=True, exist_ok=True)
        if _AUTHORITIES.exists():
            shutil.copy(_AUTHORITIES, self._given / "authorities.crt")

    def build(self, text: str) -> Stage:
        """Follows all instructions and returns the last stage."""
        stage: Stage | None = None
        for word, rest in instructions(text):
            print(f"{word} {rest}"[:110], flush=True)
            if word == "ARG":
                continue
            if word == "FROM":
                stage = self._begin(rest)
            elif stage is None:
                raise SystemExit(f"{word} before FROM")
            else:
                self._follow(stage, word, rest)
        if stage is None:
            raise SystemExit("there is no FROM")
        return stage

    def _begin(self, rest: str) -> Stage:
        name = rest.partition(" AS ")[2] or "rootfs"
        base, root = self._folder / f"base-{_SUITE}", self._folder / name
        if not (base / "etc/debian_version").exists():
            run("debootstrap", "--variant=minbase", _SUITE, str(base), _mirror())
        if root.exists():
            shutil.rmtree(root)
        run("cp", "-a", "--reflink=auto", str(base), str(root))
        self._stages[name] = Stage(root)
        return self._stages[name]

    def _follow(self, stage: Stage, word: str, rest: str) -> None:
        if word == "RUN":
            self.inside(stage, "/bin/sh", "-c", rest)
        elif word == "COPY":
            self._copy(stage, shlex.split(rest))
        elif word == "ENV":
            stage.environment.update(dict(pair.split("=", 1) for pair in shlex.split(rest)))
        elif word == "USER":
            stage.user = rest
        elif word == "ENTRYPOINT":
            stage.entrypoint = json.loads(rest)
        else:
            raise SystemExit(f"{word} is not understood here")

    def _copy(self, stage: Stage, words: list[str]) -> None:
        source = self._context
        if words[0].startswith("--from="):
            source = self._stages[words.pop(0).removeprefix("--from=")].root
        *names, to = words
        target = stage.root / to.lstrip("/")
        for name in names:
            place = source / name.lstrip("/")
            into = target / place.name if to.endswith("/") else target
            into.parent.mkdir(parents=True, exist_ok=True)
            run("cp", "-a", str(place), str(into))

    def inside(self, stage: Stage, *words: str, user: str = "0:0") -> str:
        """Runs a command in the stage's root and returns what it prints; ends this program if it fails."""
        environment = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "DEBIAN_FRONTEND": "noninteractive",
            **stage.environment,
        }
        authorities = {"PIP_CERT": "/mnt/authorities.crt"} if (self._given / "authorities.crt").exists() else {}
        pip = {key: value for key, value in os.environ.items() if key in {"PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"}}
        settings = [f"{key}={value}" for key, value in {**environment, **pip, **authorities}.items()]
        uid, _, gid = user.partition(":")
        change = ("/usr/bin/setpriv", "--reuid", uid, "--regid", gid, "--clear-groups")
        shutil.copy("/etc/resolv.conf", stage.root / "etc/resolv.conf")
        command = ("/usr/bin/env", "-i", *settings, *(change if user != "0:0" else ()), *words)
        space = ("unshare", "--mount", "--pid", "--fork", "--kill-child")
        return run(*space, "/bin/sh", "-c", _INSIDE, str(stage.root), str(self._given), *command)


def _mirror() -> str:
    """Returns where this machine gets Debian's packages from."""
    listed = run("apt-get", "indextargets", "--format", "$(RELEASE) $(REPO_URI)", "Created-By: Packages")
    mirrors = [line.split()[1] for line in listed.splitlines() if line.startswith(f"{_SUITE} ")]
    if not mirrors:
        raise SystemExit(f"apt on this machine has no source of Debian {_SUITE}: debootstrap needs one")
    return mirrors[0]


def run(*words: str) -> str:
    """Runs a command; ends this program, with the command's last words, if it fails."""
    done = subprocess.run(words, capture_output=True, text=True, check=False)  # noqa: S603 - of the Containerfile
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(words)[-300:]}\n{done.stdout[-1500:]}{done.stderr[-1500:]}")
    return done.stdout


def check(builder: Builder, stage: Stage) -> None:
    """Starts what the image is for, as the image's user, and shows what is in it. Ends this program on surprises."""
    inside = [
        (("meshsdk", "--version"), "meshsdk "),
        ((*stage.entrypoint, "--help"), "upgrade"),
        ((*stage.entrypoint, "run", "--help"), "--inbound"),
        (("/opt/meshsdk/bin/python", "-c", _ENVOY), "/1.4"),
        (("/opt/meshsdk/bin/python", "-m", "pip", "--version"), "pip "),
        (("nft", "--version"), "nftables"),
        (("nft", "list", "tables"), ""),  # needs the file's capability
        (("/usr/bin/id", "-u"), "1337"),
    ]
    for words, expected in inside:
        said = builder.inside(stage, *words, user=stage.user)
        if expected not in said:
            raise SystemExit(f"{' '.join(words)} says nothing of {expected!r}: {said[:500]}")
    unwanted = [name for name in _UNWANTED if (stage.root / name).exists()]
    if unwanted:
        raise SystemExit(f"in the image and not wanted: {', '.join(unwanted)}")
    if "cap_net_admin" not in run("getcap", str(stage.root / "usr/sbin/nft")):
        raise SystemExit("nft has no right to change rules")
    print(run("du", "-sh", str(stage.root)).strip())
    print(builder.inside(stage, "/opt/meshsdk/bin/python", "-m", "pip", "list", "--format=freeze"))


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("containerfile", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--check", action="store_true", help="start what is in it")
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        raise SystemExit("only root may build a root file system")
    builder = Builder(Path.cwd(), arguments.folder.absolute())
    stage = builder.build(arguments.containerfile.read_text())
    if arguments.check:
        check(builder, stage)
    print(stage.root)


if __name__ == "__main__":
    sys.exit(main())
