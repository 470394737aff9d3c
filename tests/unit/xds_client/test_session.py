"""Session: targets, subscriptions and publications. `resolve` is a small one of text: a listener names its clusters."""

from __future__ import annotations

import pytest

from meshsdk.bootstrap import load_bootstrap
from meshsdk.model.resources import Kind, Listener, VirtualHost
from meshsdk.model.snapshot import BrokenCluster, Key, Resolution, Snapshot, Unresolvable
from meshsdk.xds_client.machine import Saved
from meshsdk.xds_client.messages import Close, Open, Response, Send
from meshsdk.xds_client.names import parse_target
from meshsdk.xds_client.session import Link, Session
from meshsdk.xds_client.store import EntryStatus
from tests.unit.xds_client.bench import CDS, LDS, TextCodec, raw, received

INSECURE = [{"type": "insecure"}]
ONE = [{"server_uri": "one:1", "channel_creds": INSECURE}]
TWO = [{"server_uri": "two:2", "channel_creds": INSECURE}]
HOST = VirtualHost("h", ("*",), ())


def text_resolve(store, target, listener_name, *_):
    """A listener's content is a list of clusters; a cluster's content goes into the snapshot."""
    key = Key(LDS, listener_name)
    entry = store.get(key)
    if entry is None or entry.resource is None:
        problem = "" if entry is None else entry.problem
        missing = frozenset([key]) if entry is None or entry.status is not EntryStatus.ABSENT else frozenset()
        return Resolution(Unresolvable(target, problem) if problem else None, frozenset([key]), missing)
    keys = [Key(CDS, name) for name in entry.resource.ignored[0].split(",") if name]
    entries = {key.name: store.get(key) for key in keys}
    missing = frozenset(k for k in keys if entries[k.name] is None or entries[k.name].resource is None)
    clusters = {
        name: BrokenCluster(name, e.resource.ignored[0]) for name, e in entries.items() if e is not None and e.resource
    }
    waiting = any(entries[k.name] is None or not entries[k.name].problem for k in missing)
    snapshot = None if waiting else Snapshot(target, Listener(listener_name), HOST, clusters)
    return Resolution(snapshot, frozenset([key, *keys]), missing)


class Desk:
    """A session with one clock reading, and the last `Todo` taken apart."""

    def __init__(self, last_good=lambda key: None, **fields):
        self.bootstrap = load_bootstrap({"xds_servers": ONE, "meshsdk": {"transport": "sotw"}, **fields}, {})
        self.session = Session(self.bootstrap, TextCodec(), text_resolve, lambda: 0.5, last_good=last_good)
        self.now = 0.0
        self.results = {}
        self.count = 0

    def take(self):
        """Takes what is to be done, and sorts it."""
        todo = self.session.take(self.now)
        self.effects = [(machine, effect) for machine, effect in todo.effects]
        self.published = [publication.watch for publication in todo.publications]
        self.results.update({publication.watch: publication.result for publication in todo.publications})
        return todo

    def watch(self, watch, target):
        """Adds a watch."""
        self.session.watch(watch, parse_target(target, self.bootstrap))
        self.take()

    def cancel(self, watch):
        """Ends a watch."""
        self.session.cancel(watch)
        self.take()

    def respond(self, kind, *resources, machine=0, version="1"):
        """A response arrives; resources are (name, content)."""
        self.count += 1
        response = Response(kind.value, version, f"n{self.count}", tuple(received(kind, *r) for r in resources))
        self.session.received(Link(machine, 0), response, self.now)
        return self.take()

    def close(self):
        """The stream breaks."""
        self.session.closed(Link(0, 0), "UNAVAILABLE", "down", self.now)
        self.take()

    def opened(self):
        """The machines that opened a stream."""
        return [machine for machine, effect in self.effects if isinstance(effect, Open)]

    def names(self, kind):
        """The names last asked for."""
        requests = [e.request for _, e in self.effects if isinstance(e, Send) and e.request.kind == kind.value]
        return requests[-1].names if requests else None


def contents(result):
    """Cluster contents of a snapshot."""
    return {name: cluster.problem for name, cluster in result.clusters.items()}


def test_nothing_is_published_before_it_is_complete():
    """A listener without its clusters is no configuration; the clusters are asked for at once."""
    desk = Desk()
    desk.watch(1, "xds:///a")
    assert desk.names(LDS) == ("a",)
    desk.respond(LDS, ("a", "x,y"))
    assert desk.names(CDS) == ("x", "y")
    desk.respond(CDS, ("x", "1"))
    assert desk.published == []
    desk.respond(CDS, ("x", "1"), ("y", "1"))
    assert contents(desk.results[1]) == {"x": "1", "y": "1"}


def test_changes_are_published_once_and_numbered():
    """A changed resource gives a new snapshot with the next version; an unchanged one gives none."""
    desk = Desk()
    desk.watch(1, "xds:///a")
    desk.respond(LDS, ("a", "x"))
    desk.respond(CDS, ("x", "1"))
    assert desk.results[1].version == 1
    desk.respond(CDS, ("x", "1"), version="2")
    assert desk.published == []
    desk.respond(CDS, ("x", "2"), version="3")
    assert (desk.results[1].version, contents(desk.results[1])) == (2, {"x": "2"})


def test_targets_share_one_stream_and_their_resources():
    """Many targets, one stream; a resource they share is asked for once and reaches both."""
    desk = Desk()
    for watch, name in enumerate("abc"):
        desk.watch(watch, f"xds:///{name}")
        assert desk.opened() == ([0] if watch == 0 else [])
    desk.respond(LDS, ("a", "x"), ("b", "x"), ("c", "z"))
    assert desk.names(CDS) == ("x", "z")
    desk.respond(CDS, ("x", "1"), ("z", "1"))
    assert sorted(desk.published) == [0, 1, 2]
    desk.respond(CDS, ("x", "2"), ("z", "1"))
    assert sorted(desk.published) == [0, 1]


def test_second_watch_of_a_target_is_told_at_once():
    """Who comes later gets what is in force, and nobody else hears of it again."""
    desk = Desk()
    desk.watch(1, "xds:///a")
    desk.respond(LDS, ("a", ""))
    desk.watch(2, "xds:///a")
    assert desk.published == [2]
    assert desk.results[2] == desk.results[1]


def test_cancelling_gives_up_what_nobody_else_wants():
    """Subscriptions are the union of what targets want; the last watch takes the stream along."""
    desk = Desk()
    desk.watch(1, "xds:///a")
    desk.watch(2, "xds:///b")
    desk.respond(LDS, ("a", "x,y"), ("b", "y"))
    desk.cancel(1)
    assert desk.names(LDS) == ("b",)
    assert desk.names(CDS) == ("y",)
    desk.cancel(2)
    assert [type(effect) for _, effect in desk.effects] == [Close]
    assert desk.session.store.entries() == ()
    desk.cancel(2)


def test_watching_again_after_cancelling():
    """A target given up and watched again starts from nothing."""
    desk = Desk()
    desk.watch(1, "xds:///a")
    desk.respond(LDS, ("a", ""))
    desk.cancel(1)
    desk.watch(2, "xds:///a")
    assert desk.published == []
    assert desk.opened() == [0]


def test_old_configuration_stays_subscribed_until_the_new_one_is_complete():
    """Make before break: what is in force is not given up for something that may never arrive."""
    desk = Desk()
    desk.watch(1, "xds:///a")
    desk.respond(LDS, ("a", "x"))
    desk.respond(CDS, ("x", "1"))
    desk.respond(LDS, ("a", "y"))
    assert desk.names(CDS) == ("x", "y")
    desk.respond(CDS, ("x", "1"), ("y", "1"))
    assert contents(desk.results[1]) == {"y": "1"}
    assert desk.names(CDS) == ("y",)


def test_outage_in_the_middle_of_a_change_keeps_what_works():
    """The server names a new cluster and goes away: the configuration in force stays in force."""
    desk = Desk()
    desk.watch(1, "xds:///a")
    desk.respond(LDS, ("a", "x"))
    desk.respond(CDS, ("x", "1"))
    desk.respond(LDS, ("a", "y"))
    desk.close()
    desk.now += 1
    desk.take()
    desk.close()
    assert desk.session.store.get(Key(CDS, "y")).status is EntryStatus.UNREACHABLE
    assert desk.published == []


def test_outage_from_the_start_is_told():
    """Without any configuration the watcher learns why, with the server's name; later it gets what arrives."""
    desk = Desk()
    desk.watch(1, "xds:///a")
    desk.close()
    assert desk.results[1] == Unresolvable("xds:///a", "xDS server one:1: UNAVAILABLE: down")
    desk.now += 2
    desk.take()
    desk.respond(LDS, ("a", ""))
    assert isinstance(desk.results[1], Snapshot)


def test_start_from_disk_reaches_the_end_of_the_graph():
    """With no server in reach, each key that the copy leads to is taken from disk in the same breath."""
    files = {Key(LDS, "a"): Saved(raw("a", "x")), Key(CDS, "x"): Saved(raw("x", "old"))}
    desk = Desk(last_good=files.get)
    desk.watch(1, "xds:///a")
    desk.close()
    assert contents(desk.results[1]) == {"x": "old"}


def test_authorities_with_own_servers_have_own_streams():
    """A47: names of an authority go to its servers; authorities without own ones share the top-level stream."""
    desk = Desk(authorities={"far": {"xds_servers": TWO}, "near": {}})
    desk.watch(1, "xds:///a")
    desk.watch(2, "xds://near/a")
    assert desk.opened() == []
    assert desk.names(LDS) == ("a", "xdstp://near/envoy.config.listener.v3.Listener/a")
    desk.watch(3, "xds://far/a")
    assert desk.opened() == [1]
    assert desk.names(LDS) == ("xdstp://far/envoy.config.listener.v3.Listener/a",)
    assert desk.session.server(Link(1, 0)).uri == "two:2"


def test_names_without_an_authority_go_to_the_default_servers():
    """`xdstp:///...`, as collections are named, goes where old-style names go; an authority "" may say otherwise."""
    name = "xdstp:///envoy.config.cluster.v3.Cluster/x"
    for fields, machine in (({}, 0), ({"authorities": {"": {"xds_servers": TWO}}}, 1)):
        desk = Desk(**fields)
        desk.watch(1, "xds:///a")
        desk.respond(LDS, ("a", name))
        asked = [(at, effect.request.names) for at, effect in desk.effects if isinstance(effect, Send)]
        assert (machine, (name,)) in asked


def test_resource_of_an_unknown_authority_is_refused():
    """A47: a control plane cannot send the client to a server that the bootstrap does not name."""
    desk = Desk()
    desk.watch(1, "xds:///a")
    name = "xdstp://evil/envoy.config.cluster.v3.Cluster/x"
    desk.respond(LDS, ("a", name))
    assert desk.names(CDS) is None
    assert "'xdstp://evil/" in desk.session.store.get(Key(CDS, name)).problem
    desk.cancel(1)
    assert desk.session.store.entries() == ()


def test_progress_names_resource_server_and_error():
    """The words for a failing call: what is awaited, from whom, and what went wrong."""
    desk = Desk()
    assert desk.session.progress("xds:///a") == "xds:///a is not being watched"
    desk.watch(1, "xds:///a")
    assert desk.session.progress("xds:///a") == "waiting for listener 'a' from xDS server one:1"
    desk.close()
    words = desk.session.progress("xds:///a")
    assert words.endswith("(last error: xDS server one:1: UNAVAILABLE: down)")


def test_touched_keys_are_reported_for_the_disk():
    """Whoever saves resources learns which ones changed."""
    desk = Desk()
    desk.watch(1, "xds:///a")
    assert desk.respond(LDS, ("a", "x")).touched == {Key(LDS, "a")}


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind is not Kind.INSTANCES])
def test_every_kind_has_a_place_in_progress(kind):
    """Progress names the first missing resource from the listener downward, whatever its type."""
    desk = Desk()
    desk.session._resolve = lambda *_: Resolution(None, frozenset([Key(kind, "k")]), frozenset([Key(kind, "k")]))
    desk.watch(1, "xds:///a")
    assert f"{kind.name.lower()} 'k'" in desk.session.progress("xds:///a")
