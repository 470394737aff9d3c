"""`meshctl`: the command line of the control plane. Parses arguments and calls `controlplane.commands`.

Exit codes: 0 done, 1 refused or failed with a clear line on stderr, 2 wrong usage.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence

from controlplane.commands import diff_routes, inspection, resources, rollout, serve
from controlplane.commands.output import FAILED, OK, complain
from meshsdk.errors import MeshError

_FORMS = ("table", "yaml", "json")
Command = Callable[[argparse.Namespace], int]


def _kind(text: str) -> str:
    try:
        return resources.kind_name(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"unknown kind {text!r}") from None


def _kind_or_all(text: str) -> str:
    return "all" if text == "all" else _kind(text)


def _debounce(text: str) -> tuple[float, float]:
    try:
        return serve.debounce(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected QUIET,MOST in milliseconds, such as 20,500; got {text!r}") from None


def _patience(text: str) -> float:
    try:
        return serve.patience(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected seconds, such as 30; got {text!r}") from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("meshctl", description="Runs and operates the meshsdk control plane.")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_serve(commands)
    _add_resources(commands)
    for name, command, words in (
        ("routes", inspection.routes, "show the routes of a service"),
        ("endpoints", inspection.endpoints, "show the endpoints of a service and its subsets"),
    ):
        added = _asking(commands, name, command, words)
        added.add_argument("app", metavar="APP", help="the service's host, or the application's name")
        _with_form(added)
    _with_form(_asking(commands, "status", inspection.status, "show counts, problems and warnings"))
    _with_form(_asking(commands, "clients", inspection.clients, "show who is connected over xDS"))
    _add_report(commands)
    return parser


def _add_serve(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    added = commands.add_parser("serve", help="run the control plane")
    added.set_defaults(run=serve.run)
    added.add_argument(
        "--config", metavar="DIR", required=True, help="directory of YAML files, followed when it changes"
    )
    added.add_argument("--xds", metavar="HOST:PORT", default=serve.XDS, help=f"xDS and registration ({serve.XDS})")
    added.add_argument("--admin", metavar="HOST:PORT", default=serve.ADMIN, help=f"admin interface ({serve.ADMIN})")
    added.add_argument(
        "--store",
        metavar="STORE",
        default="memory",
        help="memory (default), sqlite:PATH, or etcd://HOST:PORT[,HOST:PORT], which several control planes may share",
    )
    added.add_argument(
        "--registry",
        metavar="NAME=URL",
        action="append",
        default=[],
        help="serve the instances of another registry too; may be repeated, the first goes before the next",
    )
    added.add_argument(
        "--source",
        metavar="xds://HOST:PORT",
        action="append",
        default=[],
        help="take over the configuration of another control plane, below files and what was applied; may be repeated",
    )
    _add_tuning(added)


def _add_tuning(added: argparse.ArgumentParser) -> None:
    added.add_argument(
        "--patience",
        metavar="SECONDS",
        type=_patience,
        help="seconds to wait at the start for registries and sources, before clients are answered without (no limit)",
    )
    added.add_argument(
        "--load-reports", choices=("own", "all"), default="own", help="whose calls are counted: our SDK's, or all (own)"
    )
    added.add_argument(
        "--rate-limit-store",
        metavar="STORE",
        default="memory",
        help="where rate limits are counted: memory (default), or redis://HOST:PORT/DB, which replicas share",
    )
    added.add_argument(
        "--debounce",
        metavar="QUIET,MOST",
        type=_debounce,
        default=(0.02, 0.5),
        help="milliseconds without a further change, and at most, before a change is pushed (20,500)",
    )


def _add_report(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    added = commands.add_parser("rollout-report", help="show what the calls of a time span came to, as clients report")
    added.set_defaults(run=rollout.report)
    added.add_argument("app", metavar="APP", nargs="?", default="", help="the service called; all without")
    added.add_argument(
        "--since", metavar="T", type=_moment, default="10m", help="begin: 90s, 10m, 2h, 1d ago, or ISO 8601 (10m)"
    )
    added.add_argument("--until", metavar="T", type=_moment, default="0s", help="end, in the same ways (now)")
    added.add_argument(
        "--server",
        metavar="HOST:PORT",
        action="append",
        help=f"admin interface to ask (MESHCTL_SERVER, or {serve.ADMIN}); may be repeated: each of several replicas",
    )
    _with_form(added)


def _moment(text: str) -> float:
    try:
        return rollout.moment(text)
    except (ValueError, OverflowError):
        words = f"expected 90s, 10m, 2h, 1d, or ISO 8601, since 1970; got {text[:40]!r}"
        raise argparse.ArgumentTypeError(words) from None


def _add_resources(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    added = _asking(commands, "apply", resources.apply, "add or change resources")
    added.add_argument("-f", "--file", metavar="FILE", required=True, help="YAML; - for stdin")
    added = _asking(commands, "get", resources.get, "show resources in force")
    added.add_argument("kind", metavar="KIND", type=_kind_or_all, help="a kind, or all")
    added.add_argument("name", metavar="NAME", nargs="?")
    added.add_argument("-n", "--namespace", default="default")
    _with_form(added)
    added = _asking(commands, "delete", resources.delete, "delete a resource that was applied")
    added.add_argument("kind", metavar="KIND", type=_kind)
    added.add_argument("name", metavar="NAME")
    added.add_argument("-n", "--namespace", default="default")
    added = commands.add_parser("validate", help="check YAML without a control plane")
    added.set_defaults(run=resources.validate)
    added.add_argument("file", metavar="FILE", help="a file, a directory, or - for stdin")
    added = commands.add_parser("diff-routes", help="show where recorded calls would go under another configuration")
    added.set_defaults(run=diff_routes.run)
    added.add_argument("old", metavar="OLD", help="YAML in force: a file or a directory")
    added.add_argument("new", metavar="NEW", help="YAML to compare with")
    added.add_argument("traffic", metavar="TRAFFIC", help="calls, a JSON object a line, such as the SDK's access log")
    added.add_argument("-o", "--output", choices=("table", "json"), default="table")


def _asking(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, command: Command, words: str
) -> argparse.ArgumentParser:
    """Adds a command that asks a running control plane."""
    added = commands.add_parser(name, help=words)
    added.set_defaults(run=command)
    added.add_argument(
        "--server",
        metavar="HOST:PORT",
        default=os.environ.get("MESHCTL_SERVER", serve.ADMIN),
        help=f"admin interface to ask (MESHCTL_SERVER, or {serve.ADMIN})",
    )
    return added


def _with_form(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--output", choices=_FORMS, default="table")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code. Wrong usage exits with 2 (argparse)."""
    parsed = _parser().parse_args(arguments)
    command: Command = parsed.run
    try:
        return command(parsed)
    except MeshError as error:
        complain(f"meshctl: {line}" for line in str(error).splitlines())
        return FAILED
    except BrokenPipeError:  # `meshctl get ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK


if __name__ == "__main__":
    sys.exit(main())
