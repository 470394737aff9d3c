"""The texts of interception: what is redirected, what is spared, and what is refused before the kernel sees it."""

from __future__ import annotations

from pathlib import Path

import pytest

from meshsdk.errors import ConfigurationError
from meshsdk.shim.intercept.rules import (
    Redirect,
    Rules,
    inbound_redirects,
    iptables_redirects,
    iptables_removal,
    iptables_script,
    nft_redirects,
    nft_removal,
    nft_script,
    outbound_redirects,
    read_networks,
    read_ports,
    table_name,
)
from meshsdk.shim.settings import Inbound, Settings

RULES = Rules(
    "meshsdk_shim_x",
    1337,
    (Redirect(50051, 15001, 4, ("10.0.0.0/8",)),),
    (Redirect(9000, 15006, 4), Redirect(9000, 15007, 6)),
)


def settings(outbound: str = "127.0.0.1:15001", listen: str = "0.0.0.0:15006", target: str = "127.0.0.1:9000"):
    """A shim of both directions."""
    return Settings("web", Path("/run/x"), (Inbound(listen, target),), outbound)


def test_nft():
    """One table, made anew in the transaction that removes it; the shim's user and loopback come before redirects."""
    lines = nft_script(RULES).splitlines()
    assert lines[:3] == ["table inet meshsdk_shim_x", "delete table inet meshsdk_shim_x", "table inet meshsdk_shim_x {"]
    spared, redirect = lines.index("meta skuid 1337 return"), next(i for i, x in enumerate(lines) if "50051" in x)
    assert spared < lines.index("ip daddr 127.0.0.0/8 return") < redirect
    assert lines[redirect].startswith("meta nfproto ipv4 ip daddr { 10.0.0.0/8 } tcp dport 50051 ")
    assert "== syn redirect to :15001" in lines[redirect]
    assert sum("dport 9000" in line for line in lines) == 2


def test_nft_keeps_its_chains_without_rules():
    """Without a chain of type nat the kernel forgets the translations of connections that are open."""
    lines = nft_script(Rules("t", 0))
    assert lines.count("type nat hook") == 2
    assert "redirect" not in lines
    assert nft_removal("t") == "table inet t\ndelete table inet t\n"


def test_iptables():
    """Chains of its own, the redirects of one IP version, and a jump to each chain that has any."""
    four = iptables_script(RULES, 4, "-P OUTPUT ACCEPT\n").splitlines()
    assert four[0] == "*nat"
    assert four[-1] == "COMMIT"
    assert "-A meshsdk_shim_x_out -d 10.0.0.0/8 -p tcp --syn --dport 50051 -j REDIRECT --to-ports 15001" in four
    assert "-A OUTPUT -j meshsdk_shim_x_out" in four
    six = iptables_script(RULES, 6, "").splitlines()
    assert "-A PREROUTING -j meshsdk_shim_x_in" in six
    assert not [line for line in six if "OUTPUT" in line or "15006" in line]


def test_iptables_takes_away_what_is_there_and_no_more():
    """Jumps, also doubled ones, and chains go in the same transaction; the rules of others are not named."""
    ours = "-N meshsdk_shim_x_out\n-A OUTPUT -j meshsdk_shim_x_out\n-A OUTPUT -j meshsdk_shim_x_out\n"
    present = f"-N meshsdk_shim_xyz_in\n{ours}-A OUTPUT -p tcp -j other\n"
    assert iptables_removal("meshsdk_shim_x", present).splitlines() == [
        "*nat",
        *["-D OUTPUT -j meshsdk_shim_x_out"] * 2,
        "-F meshsdk_shim_x_out",
        "-X meshsdk_shim_x_out",
        "COMMIT",
    ]
    assert iptables_removal("meshsdk_shim_x", "-P OUTPUT ACCEPT") == ""


def test_redirects_of_a_shim():
    """Calls out go to the outbound listener, calls in to the listener in front of the port that they are for."""
    assert outbound_redirects(settings(), (50051, 80), ("10.0.0.0/8", "fd00::/8")) == (
        Redirect(50051, 15001, 4, ("10.0.0.0/8",)),
        Redirect(80, 15001, 4, ("10.0.0.0/8",)),
    )
    assert outbound_redirects(settings(""), (), ()) == ()
    assert inbound_redirects(settings()) == (Redirect(9000, 15006, 4),)
    assert inbound_redirects(settings(listen="[::]:15006")) == (Redirect(9000, 15006, 6),)
    assert inbound_redirects(settings(target="unix:/run/app.sock")) == ()


@pytest.mark.parametrize(
    ("attempt", "words"),
    [
        (lambda: outbound_redirects(settings(""), (80,), ()), "need a shim with --outbound"),
        (lambda: outbound_redirects(settings("unix:/x"), (80,), ()), "need a shim with --outbound"),
        (lambda: outbound_redirects(settings(), (15001,), ()), "own outbound listener"),
        (lambda: outbound_redirects(settings(), (80,), ("fd00::/8",)), "names no IPv4 network"),
        (lambda: inbound_redirects(settings(listen="127.0.0.1:15006")), "must listen on every address"),
        (lambda: inbound_redirects(settings(listen="0.0.0.0:9000")), "is the port of the application"),
        (lambda: read_ports([0]), "from 1 to 65535"),
        (lambda: read_ports(["80"]), "from 1 to 65535"),
        (lambda: read_ports([True]), "from 1 to 65535"),
        (lambda: read_ports("80"), "from 1 to 65535"),
        (lambda: read_networks("10.0.0.0/8"), "list of networks"),
        (lambda: read_ports(list(range(1, 102))), "at most 100"),
        (lambda: read_networks(["10.0.0.1/8"]), "host bits"),
        (lambda: read_networks(["x; flush ruleset"]), "does not appear to be"),
    ],
)
def test_what_is_refused(attempt, words):
    """One clear line, before anything is changed."""
    with pytest.raises(ConfigurationError, match=words):
        attempt()


def test_names():
    """A shim finds its own table again, and iptables takes the names of its chains (28 characters)."""
    one, two = Path("/run/one"), Path("/run/two")
    assert table_name("web", one) == table_name("web", one)
    assert len({table_name("web", one), table_name("web2", one), table_name("web", two)}) == 3
    assert len(table_name("x" * 253, one) + "_out") <= 28


def test_redirects_in_force():
    """Each direction is counted for itself, and by iptables only where a jump leads to it."""
    listed = "table inet t {\n\tchain outbound {\n\t\ttcp dport 1 redirect to :2\n\t}\n\tchain inbound {\n\t}\n}\n"
    assert nft_redirects(listed) == (1, 0)
    chain = "-A x_in -p tcp -j REDIRECT --to-ports 2\n"
    assert iptables_redirects(chain, "x_in") == 0
    jump = "-A PREROUTING -j x_in\n"
    assert (iptables_redirects(chain + jump, "x_in"), iptables_redirects(chain + jump, "x_out")) == (1, 0)
