"""`ResourceCache`: consistent snapshots, views, batches and notices."""

from __future__ import annotations

import contextvars
import threading

import pytest
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.endpoint.v3 import endpoint_components_pb2, endpoint_pb2
from google.protobuf import any_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane import ResourceCache
from controlplane.server.node import Node
from controlplane.server.type_urls import CLUSTER, ENDPOINT, LB_ENDPOINT
from meshsdk.errors import ConfigurationError


def cluster(name: str, mark: str = "") -> cluster_pb2.Cluster:
    """A cluster whose content is told apart by `mark`."""
    return cluster_pb2.Cluster(name=name, alt_stat_name=mark)


def held(cache: ResourceCache, node: str | None = None) -> dict[str, str]:
    """The clusters of a view: mark by name."""
    found = {}
    for packed in cache.snapshot(node).of(CLUSTER):
        message = cluster_pb2.Cluster.FromString(any_pb2.Any.FromString(packed.body).value)
        found[packed.name] = message.alt_stat_name
    return found


@pytest.fixture
def cache() -> ResourceCache:
    """An empty cache that keeps its notices in `notices`."""
    made = ResourceCache()
    made.notices = []
    made.listen(made.notices.append)
    return made


def test_set_takes_one_many_or_named(cache):
    """One message, several, or a mapping of names are set; each call is one notice with what changed."""
    cache.set(cluster("a"))
    cache.set([cluster("b"), endpoint_pb2.ClusterLoadAssignment(cluster_name="b")])
    cache.set({"c": cluster("c")})
    assert held(cache) == {"a": "", "b": "", "c": ""}
    assert [dict(notice.names) for notice in cache.notices] == [
        {CLUSTER: ("a",)},
        {CLUSTER: ("b",), ENDPOINT: ("b",)},
        {CLUSTER: ("c",)},
    ]
    assert cache.get(CLUSTER, "a") is not None
    assert cache.get(CLUSTER, "z") is None


def test_equal_content_is_no_change(cache):
    """Setting what is there, and deleting what is not, tells nobody and keeps the version."""
    cache.set(cluster("a"))
    version = cache.snapshot().of(CLUSTER).version
    cache.set(cluster("a"))
    cache.delete(CLUSTER, "b")
    cache.delete(ENDPOINT, ["b"])
    assert len(cache.notices) == 1
    assert cache.snapshot().of(CLUSTER).version == version


def test_snapshot_does_not_change(cache):
    """Who holds a snapshot sees what was there when it was taken."""
    cache.set(cluster("a"))
    before = cache.snapshot()
    cache.set(cluster("a", "new"))
    cache.delete(CLUSTER, "a")
    assert before.of(CLUSTER).get("a") is not None
    assert held(cache) == {}


def test_bad_resource_changes_nothing(cache):
    """If one resource of several cannot be set, none is."""
    with pytest.raises(ConfigurationError):
        cache.set([cluster("a"), cluster("")])
    assert held(cache) == {}
    assert cache.notices == []


def test_replace_leaves_only_what_is_given(cache):
    """Replacing drops the rest of the named types, or of all; what is equal is no change."""
    cache.set([cluster("a"), cluster("b"), endpoint_pb2.ClusterLoadAssignment(cluster_name="a")])
    cache.replace([cluster("b"), cluster("c")], types=[CLUSTER])
    assert held(cache) == {"b": "", "c": ""}
    assert dict(cache.notices[-1].names) == {CLUSTER: ("c", "a")}
    assert cache.get(ENDPOINT, "a") is not None
    cache.replace(cluster("b"))
    assert held(cache) == {"b": ""}
    assert cache.get(ENDPOINT, "a") is None
    cache.clear()
    assert held(cache) == {}


def test_batch_is_seen_at_once(cache):
    """Changes in a batch are invisible until it ends, and then come as one notice."""
    cache.set(cluster("old"))
    with cache.batch():
        cache.set(cluster("new"))
        with cache.batch():
            cache.delete(CLUSTER, "old")
        assert held(cache) == {"old": ""}
    assert held(cache) == {"new": ""}
    assert len(cache.notices) == 2


def test_failed_batch_changes_nothing(cache):
    """A batch that ends with an exception leaves everything as it was."""

    def fail() -> None:
        with cache.batch():
            cache.set(cluster("a"))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    cache.set(cluster("b"))
    assert held(cache) == {"b": ""}


def test_batch_belongs_to_its_thread(cache):
    """What another thread sets during a batch is seen at once; so is what a left-over context sets after its end."""
    with cache.batch():
        cache.set(cluster("mine"))
        other = threading.Thread(target=cache.set, args=(cluster("theirs"),))
        other.start()
        other.join()
        assert held(cache) == {"theirs": ""}
        context = contextvars.copy_context()
    context.run(cache.set, cluster("late"))
    assert held(cache) == {"mine": "", "theirs": "", "late": ""}


def test_own_resources_stand_before_shared_ones(cache):
    """A view sees its own resource of a name instead of the one for all, and that one again when its own is gone."""
    cache.set([cluster("a", "all"), cluster("b", "all")])
    cache.set(cluster("a", "own"), node="n")
    assert held(cache, "n") == {"a": "own", "b": "all"}
    assert held(cache, "m") == held(cache) == {"a": "all", "b": "all"}
    assert cache.nodes() == ("n",)
    cache.delete(CLUSTER, "a", node="n")
    assert held(cache, "n") == {"a": "all", "b": "all"}
    assert cache.nodes() == ()
    assert [notice.views for notice in cache.notices] == [None, {"n"}, {"n"}]


def test_views_share_what_is_not_theirs(cache):
    """A view with one own cluster shares the endpoints of all by identity, and views without own share everything."""
    cache.set([cluster("a"), endpoint_pb2.ClusterLoadAssignment(cluster_name="a")])
    cache.set(cluster("b"), node="n")
    assert cache.snapshot("n").of(ENDPOINT) is cache.snapshot().of(ENDPOINT)
    assert cache.snapshot("m") is cache.snapshot()
    assert cache.snapshot("n") is cache.snapshot("n")


def test_views_with_equal_layers_share_one_snapshot(cache):
    """Views composed of the same layers are one in memory; a layer on top stands before those below it."""
    cache.set([cluster("a", "all"), cluster("b", "all"), cluster("c", "all")])
    cache.set([cluster("a", "low"), cluster("b", "low")], node="low")
    cache.set(cluster("b", "high"), node="high")
    cache.compose({"n": ("low", "high"), "m": ("low", "high"), "k": ("low",), "j": ("nothing",)})
    assert held(cache, "n") == {"a": "low", "b": "high", "c": "all"}
    assert held(cache, "k") == {"a": "low", "b": "low", "c": "all"}
    assert cache.snapshot("n") is cache.snapshot("m")
    assert cache.snapshot("j") is cache.snapshot()


def test_a_layer_that_changes_concerns_the_views_that_see_it(cache):
    """The notice of a layer names its views; a view that gets other layers is told what differs, and its own anew."""
    cache.set(cluster("a", "all"))
    cache.compose({"n": ("low",), "m": ("low", "high"), "k": ("high",)})
    cache.set(cluster("a", "low"), node="low")
    assert cache.notices[-1].views == {"n", "m", "low"}
    cache.set(cluster("a", "high"), node="high")
    assert (cache.notices[-1].views, held(cache, "m")) == ({"m", "k", "high"}, {"a": "high"})
    cache.compose({"m": ("low",), "k": ("high",)})
    assert (cache.notices[-1].views, dict(cache.notices[-1].names)) == ({"m"}, {CLUSTER: ("a",)})
    cache.compose({"n": None})
    assert held(cache, "n") == {"a": "all"}
    cache.clear(node="low")
    cache.clear(node="high")
    assert cache.nodes() == ()
    assert cache._layers._overlays == {}


def member(name: str, weight: int = 1) -> dict[str, endpoint_components_pb2.LbEndpoint]:
    """A member of the collection xdstp:///T/c."""
    message = endpoint_components_pb2.LbEndpoint()
    message.load_balancing_weight.value = weight
    return {f"xdstp:///T/c/{name}": message}


def test_collections_follow_their_members(cache):
    """A collection holds its members, is named by the notice when one changes, and ends with the last one."""
    cache.set(member("x") | member("y"))
    assert dict(cache.notices[-1].collections) == {LB_ENDPOINT: {"xdstp:///T/c"}}
    before = cache.snapshot().collection(LB_ENDPOINT, "xdstp:///T/c")
    cache.set(cluster("a"))
    assert dict(cache.notices[-1].collections) == {}
    cache.set(member("y", 2))
    after = cache.snapshot().collection(LB_ENDPOINT, "xdstp:///T/c")
    assert [packed.name for packed in after.changes_from(before)[0]] == ["xdstp:///T/c/y"]
    cache.delete(LB_ENDPOINT, ["xdstp:///T/c/x", "xdstp:///T/c/y"])
    assert dict(cache.notices[-1].collections) == {LB_ENDPOINT: {"xdstp:///T/c"}}
    assert len(cache.snapshot().collection(LB_ENDPOINT, "xdstp:///T/c")) == 0
    assert len(cache.snapshot().collections[LB_ENDPOINT]) == 0


def test_views_have_collections_of_their_own(cache):
    """A view sees the members for all, and in their place or beside them its own."""
    cache.set(member("x") | member("y"))
    cache.snapshot("n")
    cache.set(member("y", 2) | member("z"), node="n")
    cache.delete(LB_ENDPOINT, "xdstp:///T/c/x")
    found = cache.snapshot("n").collection(LB_ENDPOINT, "xdstp:///T/c")
    assert sorted(packed.name[-1] for packed in found) == ["y", "z"]
    cache.clear(node="n")
    assert [packed.name[-1] for packed in cache.snapshot("n").collection(LB_ENDPOINT, "xdstp:///T/c")] == ["y"]


@pytest.mark.parametrize(
    ("name", "words"),
    [("xdstp:///T/c/*", "names a collection"), ("xdstp:///T/c/x?xds.node.id=n", "xds.node.id")],
)
def test_names_that_no_client_would_find_are_refused(cache, name, words):
    """A resource cannot be called like a collection, nor for one client by its context parameters."""
    with pytest.raises(ConfigurationError, match=words):
        cache.set({name: endpoint_components_pb2.LbEndpoint()})


def test_what_is_wanted_is_made_by_the_hook():
    """The hook is told what a client newly asks for, and says what is to be run first; nothing is told of nothing."""
    told = []

    def wanted(view, type_url, names):
        told.append((view, type_url, set(names)))
        return (lambda: cache.set(cluster("a"))) if "a" in names else None

    cache = ResourceCache(wanted=wanted)
    assert cache.want("n", CLUSTER, []) is None
    assert cache.want("n", CLUSTER, ["b"]) is None
    cache.want("n", CLUSTER, ["a"])()
    assert (told, held(cache)) == ([("n", CLUSTER, {"b"}), ("n", CLUSTER, {"a"})], {"a": ""})


def test_view_function_decides():
    """Nodes share a view by what the view function says of them."""
    cache = ResourceCache(view=lambda node: f"app={node.app}")
    assert cache.view_of(Node(id="n1", cluster="web")) == cache.view_of(Node(id="n2", cluster="web")) == "app=web"
    assert ResourceCache().view_of(Node(id="n1", cluster="web")) == "n1"


def test_listener_can_leave(cache):
    """A listener that was ended hears nothing more."""
    heard = []
    end = cache.listen(heard.append)
    cache.set(cluster("a"))
    end()
    cache.set(cluster("b"))
    assert len(heard) == 1


EDITS = st.lists(
    st.tuples(
        st.sampled_from(["set", "delete", "replace"]),
        st.sampled_from([None, "n"]),
        st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("12")), max_size=3, unique_by=lambda item: item[0]),
        st.booleans(),
    ),
    max_size=12,
)


@settings(max_examples=80, deadline=None)
@given(EDITS)
def test_view_is_the_overlay(edits):
    """Whatever is set, deleted and replaced for all and for a view, the view is its own laid over that for all."""
    cache = ResourceCache()
    model: dict[str | None, dict[str, str]] = {None: {}, "n": {}}
    for what, view, items, look in edits:
        if what == "set":
            cache.set([cluster(*item) for item in items], node=view)
            model[view].update(items)
        elif what == "replace":
            cache.replace([cluster(*item) for item in items], node=view)
            model[view] = dict(items)
        else:
            cache.delete(CLUSTER, [name for name, _ in items], node=view)
            for name, _ in items:
                model[view].pop(name, None)
        if look:  # a view is brought up when it is looked at, from whatever was seen last
            assert held(cache, "n") == {**model[None], **model["n"]}
    assert held(cache, "n") == {**model[None], **model["n"]}
    assert held(cache) == model[None]


def test_threads_lose_nothing():
    """Eight threads that set, delete and read at once leave exactly what they set last."""
    cache = ResourceCache()

    def work(number: int) -> None:
        for step in range(30):
            with cache.batch():
                cache.set([cluster(f"{number}-{step}"), cluster(f"{number}-x", str(step))])
                cache.delete(CLUSTER, f"{number}-{step - 1}")
            cache.snapshot("n")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = {f"{n}-29": "" for n in range(8)} | {f"{n}-x": "29" for n in range(8)}
    assert held(cache) == expected
