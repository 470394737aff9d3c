"""The rules that lead an application's connections through its shim, as text for nft and for iptables. Pure.

Called by `netfilter`. Outbound: connections to the ports of services are redirected to the outbound listener, which
routes by authority; what the shim's own user opens is spared, or Envoy would call itself. Inbound: connections from
other machines to the application's port are redirected to the inbound listener. A connection keeps the way that it
took when it was opened (connection tracking), so that rules come and go without breaking any.
"""

from __future__ import annotations

import ipaddress
import zlib
from dataclasses import dataclass
from pathlib import Path

from meshsdk.errors import ConfigurationError
from meshsdk.shim.settings import Settings

_MOST = 100  # ports, networks
_PORTS = range(1, 65_536)
_IPV6 = 6
# The packet that opens a connection. One that was open before there was any connection tracking is "new" to it as well,
# and to redirect it in the middle would break it.
_FIRST = "tcp flags & (fin | syn | rst | ack) == syn"


@dataclass(frozen=True, slots=True)
class Redirect:
    """Connections to `port` go to `to`. `version`: 4 or 6, of IP. `networks`: only those to these; none: all."""

    port: int
    to: int
    version: int
    networks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rules:
    """One shim's. `name`: of its table; `spared`: the user id whose connections are left alone."""

    name: str
    spared: int
    outbound: tuple[Redirect, ...] = ()
    inbound: tuple[Redirect, ...] = ()


def table_name(app: str, folder: Path) -> str:
    """Returns a name that is the same for each run of a shim in its folder, and short enough for iptables.

    Another shim of the same application, in the same network namespace, has another folder and so another name.
    """
    return f"meshsdk_shim_{zlib.crc32(f'{app}@{folder}'.encode()):08x}"


def outbound_redirects(settings: Settings, ports: tuple[int, ...], networks: tuple[str, ...]) -> tuple[Redirect, ...]:
    """Returns what leads calls to `ports` through the outbound listener. Raises ConfigurationError."""
    if not ports:
        return ()
    if not settings.outbound or settings.outbound.startswith("unix:"):
        raise ConfigurationError("intercept: calls out need a shim with --outbound IP:PORT")
    version, to = _endpoint(settings.outbound)
    fitting = tuple(network for network in networks if ipaddress.ip_network(network).version == version)
    if networks and not fitting:
        raise ConfigurationError(f"intercept: --cidr names no IPv{version} network, and --outbound is IPv{version}")
    if to in ports:
        raise ConfigurationError(f"intercept: port {to} is the shim's own outbound listener")
    return tuple(Redirect(port, to, version, fitting) for port in ports)


def inbound_redirects(settings: Settings) -> tuple[Redirect, ...]:
    """Returns what leads calls to the application through its inbound listeners. Raises ConfigurationError."""
    found = []
    for inbound in settings.inbound:
        if inbound.target.startswith("unix:"):
            continue
        version, to = _endpoint(inbound.listen)
        if not ipaddress.ip_address(inbound.listen.rpartition(":")[0].strip("[]")).is_unspecified:
            raise ConfigurationError(
                f"intercept: the inbound listener {inbound.listen} must listen on every address (0.0.0.0 or [::]): "
                "connections are redirected to the address of the interface that they come in by"
            )
        port = _endpoint(inbound.target)[1]
        if port == to:
            raise ConfigurationError(f"intercept: {inbound.listen} is the port of the application; give it another")
        found.append(Redirect(port, to, version))
    return tuple(found)


def read_ports(given: object) -> tuple[int, ...]:
    """Reads port numbers. Raises ConfigurationError."""
    ports = [] if given is None else given
    # True is an int to Python, and 1.0 is in a range of ints
    if (
        not isinstance(ports, list)
        or len(ports) > _MOST
        or any(type(one) is not int or one not in _PORTS for one in ports)
    ):
        raise ConfigurationError(f"intercept: --port is a number from 1 to 65535, at most {_MOST} of them")
    return tuple(dict.fromkeys(ports))


def read_networks(given: object) -> tuple[str, ...]:
    """Reads networks such as `10.0.0.0/8`. Raises ConfigurationError."""
    texts = [] if given is None else given
    if not isinstance(texts, list):
        raise ConfigurationError("intercept: --cidr is a list of networks")
    try:
        networks = [str(ipaddress.ip_network(str(text))) for text in texts[: _MOST + 1]]
    except ValueError as error:
        raise ConfigurationError(f"intercept: --cidr: {error}") from None
    if len(networks) > _MOST:
        raise ConfigurationError(f"intercept: at most {_MOST} of --cidr")
    return tuple(dict.fromkeys(networks))


def nft_script(rules: Rules) -> str:
    """Returns one transaction that puts the rules in place of whatever the table held.

    Both chains are always there: without any chain of type nat the kernel stops translating, and would break the
    connections that rules of before had redirected.
    """
    lines = [nft_removal(rules.name) + f"table inet {rules.name} {{"]
    lines += ["chain outbound {", "type nat hook output priority -100; policy accept;"]
    if rules.outbound:
        lines += [f"meta skuid {rules.spared} return", "ip daddr 127.0.0.0/8 return", "ip6 daddr ::1 return"]
    lines += [_nft(redirect) for redirect in rules.outbound]
    lines += ["}", "chain inbound {", "type nat hook prerouting priority -100; policy accept;"]
    lines += [_nft(redirect) for redirect in rules.inbound]
    return "\n".join([*lines, "}", "}", ""])


def nft_removal(name: str) -> str:
    """Returns one transaction that leaves no table of that name, whether there was one or not."""
    return f"table inet {name}\ndelete table inet {name}\n"


def nft_redirects(listed: str) -> tuple[int, int]:
    """Returns how many redirects of calls out and in a listed table has."""
    found = {"outbound": 0, "inbound": 0}
    for part in listed.split("chain ")[1:]:
        chain = part.partition(" ")[0]
        if chain in found:
            found[chain] += part.count(" redirect to :")
    return found["outbound"], found["inbound"]


def _nft(redirect: Redirect) -> str:
    family = "ip6" if redirect.version == _IPV6 else "ip"
    where = f"{family} daddr {{ {', '.join(redirect.networks)} }} " if redirect.networks else ""
    protocol = "ipv6" if redirect.version == _IPV6 else "ipv4"
    return f"meta nfproto {protocol} {where}tcp dport {redirect.port} {_FIRST} redirect to :{redirect.to}"


def iptables_script(rules: Rules, version: int, present: str) -> str:
    """Returns one transaction for `iptables-restore --noflush`, of IP `version`; `present`: `iptables -t nat -S`."""
    lines = _cleared(rules.name, present)
    for chain, hook, redirects in (("out", "OUTPUT", rules.outbound), ("in", "PREROUTING", rules.inbound)):
        fitting = [one for one in redirects if one.version == version]
        if not fitting:
            continue
        name = f"{rules.name}_{chain}"
        lines.append(f":{name} - [0:0]")  # makes it, or empties it
        if chain == "out":
            loopback = "::1/128" if version == _IPV6 else "127.0.0.0/8"
            lines += [f"-A {name} -m owner --uid-owner {rules.spared} -j RETURN", f"-A {name} -d {loopback} -j RETURN"]
        for one in fitting:
            for where in [f"-d {network} " for network in one.networks] or [""]:
                lines.append(f"-A {name} {where}-p tcp --syn --dport {one.port} -j REDIRECT --to-ports {one.to}")
        lines.append(f"-A {hook} -j {name}")
    return "\n".join(["*nat", *lines, "COMMIT", ""])


def iptables_removal(name: str, present: str) -> str:
    """Returns one transaction that leaves no chain of that name; "" where there is none."""
    lines = _cleared(name, present)
    return "\n".join(["*nat", *lines, "COMMIT", ""]) if lines else ""


def iptables_redirects(present: str, chain: str) -> int:
    """Returns how many redirects a chain has; none where nothing leads to it."""
    lines = present.splitlines()
    if not any(line.startswith("-A ") and line.endswith(f" -j {chain}") for line in lines):
        return 0
    return sum(line.startswith(f"-A {chain} ") and " REDIRECT " in line for line in lines)


def _cleared(name: str, present: str) -> list[str]:
    """Returns the commands that take away what is `present`: first the jumps to our chains, then the chains."""
    known = present.splitlines()
    lines = []
    for chain, hook in (("out", "OUTPUT"), ("in", "PREROUTING")):
        lines += [f"-D {hook} -j {name}_{chain}"] * known.count(f"-A {hook} -j {name}_{chain}")
        if f"-N {name}_{chain}" in known:
            lines += [f"-F {name}_{chain}", f"-X {name}_{chain}"]
    return lines


def _endpoint(address: str) -> tuple[int, int]:
    """Returns the IP version and the port of `ip:port`."""
    host, _, port = address.rpartition(":")
    return ipaddress.ip_address(host.strip("[]")).version, int(port)
