"""The Containerfile and the Kubernetes manifest agree with the command line and with each other.

What is in the image is looked at by `make image`, which builds its root file system: that takes more than a minute.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from meshsdk import cli
from meshsdk.bootstrap import load_bootstrap
from meshsdk.shim.command import _settings
from tests.e2e.processes import ROOT

_FILE = (ROOT / "deploy" / "Containerfile").read_text(encoding="utf-8")


def value(name: str) -> str:
    """Returns what an ENV of the image says."""
    found = re.search(rf"\b{name}=(\S+)", _FILE)
    assert found is not None
    return found.group(1)


@pytest.fixture
def shim() -> dict[str, Any]:
    """The sidecar of the manifest."""
    manifest = yaml.safe_load((ROOT / "deploy" / "kubernetes-sidecar.yaml").read_text(encoding="utf-8"))
    return manifest["spec"]["template"]["spec"]["initContainers"][0]


def test_arguments_are_options(shim: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line takes the manifest's arguments and makes of them what the manifest's ports and probes expect."""
    monkeypatch.setenv("MESHSDK_RUN_DIR", value("MESHSDK_RUN_DIR"))
    words = [word.replace("$(POD_IP)", "10.1.2.3") for word in shim["args"]]
    entry = json.loads(re.findall(r"^ENTRYPOINT (.*)$", _FILE, re.MULTILINE)[-1])
    assert entry[0] == "meshsdk"
    settings = _settings(cli._parser("shim").parse_args([*entry[1:], *words]))
    port = int(settings.inbound[0].listen.rpartition(":")[2])
    assert [shim[probe]["tcpSocket"]["port"] for probe in ("startupProbe", "readinessProbe")] == [port, port]
    assert settings.address == "10.1.2.3:" + settings.inbound[0].target.rpartition(":")[2]
    mounts = {mount["mountPath"] for mount in shim["volumeMounts"]}
    assert str(settings.folder.parent) in mounts
    assert str(Path(value("MESHSDK_ENVOY_VERSIONS")).parent) in mounts


def test_hooks_are_commands(shim: dict[str, Any]) -> None:
    """Each `meshsdk` of the hooks is a command that exists, with options that exist."""
    hooks = shim["lifecycle"]
    script = " ".join(hooks["postStart"]["exec"]["command"])
    commands = [re.split(r"[ ]", one) for one in re.findall(r"meshsdk ([a-z0-9 -]+?)(?= >|;|$)", script)]
    assert script.endswith("; exit 0"), "a hook that fails has the container ended, again and again"
    commands.append(hooks["preStop"]["exec"]["command"][1:])
    assert [command[1] for command in commands] == ["status", "intercept", "offline"]
    for command in commands:
        cli._parser(command[0]).parse_args(command)


def test_bootstrap(shim: dict[str, Any]) -> None:
    """The manifest's bootstrap is one."""
    environment = {one["name"]: one.get("value", "x") for one in shim["env"]}
    assert load_bootstrap(None, environment).node.id == "$(POD_NAME)"


def test_user_and_rights(shim: dict[str, Any]) -> None:
    """Not root, the user that is spared from interception, and the one right that nft needs, in image and manifest."""
    user = re.findall(r"^USER (\d+):(\d+)$", _FILE, re.MULTILINE)[-1]
    rights = shim["securityContext"]
    assert (str(rights["runAsUser"]), str(rights["runAsGroup"])) == user
    assert rights["runAsNonRoot"]
    assert rights["capabilities"] == {"drop": ["ALL"], "add": ["NET_ADMIN"]}
    assert "setcap cap_net_admin+ep /usr/sbin/nft" in _FILE
    assert shim["restartPolicy"] == "Always"


def test_what_is_copied_exists() -> None:
    """Each file that the Containerfile takes from the project is there; the extras it installs are the project's."""
    for names in re.findall(r"^COPY (?!--)(.*)$", _FILE, re.MULTILINE):
        for name in names.split()[:-1]:
            assert (ROOT / name).exists(), name
    extras = re.findall(r"/source\[([a-z,]+)\]", _FILE)[-1].split(",")
    for extra in extras:
        assert re.search(rf"^{extra} = \[", (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)


def test_the_builder_understands_every_instruction() -> None:
    """`scripts/rootfs.py` can follow the whole Containerfile."""
    understood = set(re.findall(r'word == "([A-Z]+)"', (ROOT / "scripts" / "rootfs.py").read_text(encoding="utf-8")))
    used = set(re.findall(r"^([A-Z]+) ", _FILE, re.MULTILINE))
    assert used <= understood
