"""What is PostgreSQL's alone: several servers, lost connections, commits that are not known."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from itertools import chain

import psycopg
import pytest
from structlog.testing import capture_logs

from hyper_registry.model.errors import CommitUnknown, StoreLost, StoreUnavailable
from hyper_registry.registry.duty import Duty
from hyper_registry.registry.engine import Engine
from hyper_registry.store.base import Hold, Renewals, Seat
from hyper_registry.store.postgres import PostgresStore
from hyper_registry.store.rules import check_same
from tests.store.builders import batch, change, create, head_of, write
from tests.support.postgres import HASTY, Cluster, running_cluster
from tests.support.waiting import eventually


@pytest.fixture
def url(cluster: Cluster) -> str:
    """A database without a registry."""
    return cluster.create()


@pytest.fixture
def own() -> Iterator[Cluster]:
    """A server whose settings a test may change."""
    with running_cluster(HASTY) as made:
        yield made


def end_all(cluster: Cluster) -> None:
    """Ends every connection of servers, as a restart of the database does."""
    cluster.ask(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name = 'nexus-registry'"
    )


async def test_a_server_that_forgets_what_it_answered(url: str) -> None:
    """What PostgreSQL need not have on its disk when it answers is refused, or warned of."""
    lax = PostgresStore(f"{url}{'&' if '?' in url else '?'}options=-c%20synchronous_commit%3Doff")
    with pytest.raises(StoreUnavailable, match="synchronous_commit is off"):
        await lax.open()
    await lax.aclose()
    store = PostgresStore(url)
    engine = Engine(store)
    with capture_logs() as logs:
        await engine.start()
    await engine.aclose()
    [warning] = [entry for entry in logs if entry["event"] == "store_not_durable"]
    assert warning["off"] == ("fsync", "full_page_writes")


async def test_servers_that_start_together(url: str) -> None:
    """Of many that find no registry one makes it; all of them have the same."""
    stores = [PostgresStore(url) for _ in range(4)]
    heads = await asyncio.gather(*(store.open() for store in stores))
    assert len({head.epoch for head in heads}) == 1
    await asyncio.gather(*(store.aclose() for store in stores))


async def test_writers_of_many_servers_are_serial(url: str) -> None:
    """Each sees the head that the one before left, and none is refused for another."""
    stores = [PostgresStore(url) for _ in range(3)]
    for store in stores:
        await store.open()

    async def work(store: PostgresStore) -> list[int]:
        return [(await write(store, [change("a")])).head.revision for _ in range(20)]

    revisions = await asyncio.gather(*map(work, stores))
    assert sorted(chain.from_iterable(revisions)) == list(range(1, 61))
    for store in stores:
        assert (await store.head()).revision == 60
        await store.aclose()


async def test_a_begin_that_is_cancelled_lets_others_write(url: str) -> None:
    """Whoever gives up waiting for the head does not get it afterwards."""
    one, other = PostgresStore(url), PostgresStore(url)
    await one.open()
    await other.open()
    held = await one.begin()
    waiting = asyncio.create_task(other.begin())
    await asyncio.sleep(0.1)
    waiting.cancel()
    await asyncio.sleep(0)
    await held.rollback()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await create(one, "a")
    await create(other, "b")
    await one.aclose()
    await other.aclose()


async def test_connections_that_are_lost(own: Cluster) -> None:
    """Between two calls nobody notices; a transaction that was open is known to have failed."""
    store = PostgresStore(own.create())
    await store.open()
    await create(store, "a")
    for _ in range(2):
        end_all(own)
        await create(store, f"b{(await store.head()).revision}")
    transaction = await store.begin()
    end_all(own)
    with pytest.raises(StoreUnavailable):
        await transaction.commit(batch(transaction.head, [change("c")]), 0)
    assert (await head_of(store)).revision == 3
    own.stop()
    with pytest.raises(StoreUnavailable, match="PostgreSQL at"):
        await store.head()
    own.start()
    assert (await head_of(store)).revision == 3
    await store.aclose()


async def test_a_commit_that_a_standby_does_not_have(own: Cluster) -> None:
    """A commit that a standby does not confirm is unknown in a while, and not shown until then."""
    url = own.create()
    store, other = PostgresStore(url), PostgresStore(url)
    store.commit_seconds = other.commit_seconds = 0.5
    await store.open()
    await other.open()
    made = await create(store, "a")
    own.ask("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
    own.ask("SELECT pg_reload_conf()")
    await eventually(lambda: own.ask("SHOW synchronous_standby_names") == [("nobody",)])
    # Processes hear of it when they are idle, a little later.
    await asyncio.sleep(0.2)
    transaction = await store.begin()
    with pytest.raises(CommitUnknown):
        await transaction.commit(batch(transaction.head, [change("b")]), 0)
    # Nobody reads what could be lost.
    assert (await other.head()).revision == made.head.revision
    own.ask("ALTER SYSTEM RESET synchronous_standby_names")
    own.ask("SELECT pg_reload_conf()")
    for one in (store, other):
        assert (await head_of(one)).revision == made.head.revision + 1
        await one.aclose()


async def test_a_snapshot_that_is_read_slowly(url: str) -> None:
    """Whoever takes his time over a snapshot is not ended for that, as a writer is."""
    options = "options=-c%20idle_in_transaction_session_timeout%3D100%20"
    store = PostgresStore(url.replace("options=", options))
    await store.open()
    await create(store, "a", "b", "c")
    snapshot = await store.snapshot()
    parts = snapshot.entities(1)
    found = [(await anext(parts)).ids]
    await asyncio.sleep(0.4)
    found += [part.ids async for part in parts]
    assert found == [["a"], ["b"], ["c"]]
    await snapshot.aclose()
    transaction = await store.begin()
    await asyncio.sleep(0.4)
    with pytest.raises(StoreUnavailable):
        await transaction.commit(batch(transaction.head, [change("d")]), 0)
    assert (await head_of(store)).revision == 1
    await store.aclose()


async def test_one_rings_and_another_wakes(url: str) -> None:
    """A server that waits is woken by a commit of another one, long before it would look itself."""
    one, other = PostgresStore(url), PostgresStore(url)
    await one.open()
    await other.open()
    # The listeners need a moment to be there.
    for _ in range(50):
        waiting = asyncio.create_task(other.woken(0.2))
        await write(one, [change("a")])
        began = asyncio.get_running_loop().time()
        await waiting
        if asyncio.get_running_loop().time() - began < 0.15:
            break
    else:
        pytest.fail("nobody was woken")
    await one.aclose()
    await other.aclose()


async def test_a_schema_that_another_version_has_made_new(url: str, cluster: Cluster) -> None:
    """A server of an older version stops writing, and says which version is there."""
    store = PostgresStore(url)
    await store.open()
    duty = Duty(store, "x", lambda: 0.0)
    await duty.beat(store)
    has_had = duty.is_ours
    cluster.ask("UPDATE registry_head SET schema_version = 99", url)
    with pytest.raises(StoreLost, match="its schema has become version 99"):
        await store.begin()
    # Servers of that version have its duties, too: nothing says any more that this one is alive.
    seat = await store.take_seat("x", "nobody", Seat())
    await duty.beat(store)
    assert (has_had, duty.is_ours) == (True, False)
    assert await store.take_seat("x", "nobody", seat) == seat
    await store.aclose()


async def test_a_seat_is_taken_once(url: str) -> None:
    """Of those who saw the same seat one gets it, and the term tells holders apart."""
    store = PostgresStore(url)
    await store.open()
    first = await store.take_seat("x", "ann", Seat())
    assert first == ("ann", 1, 1)
    assert await store.take_seat("x", "bob", Seat()) == first
    again = await store.take_seat("x", "ann", first)
    assert again == ("ann", 1, 2)
    assert await store.take_seat("x", "bob", first) == again
    assert await store.take_seat("x", "bob", again) == ("bob", 2, 3)
    assert await store.take_seat("x", "ann", again) == ("bob", 2, 3)
    await store.aclose()


async def test_what_is_said_of_leases_that_are_held(url: str) -> None:
    """Only who was not renewed since is held; a renewal ends it, and so does whoever says so."""
    store = PostgresStore(url)
    await store.open()
    try:
        await store.renew(["a", "b", "c"])
        await store.renew(["a"])
        await store.hold_back({"a": 1, "b": 1, "c": 1, "new": 0}, [])
        assert await store.all_renewals() == {
            "a": Renewals(2),
            "b": Renewals(1, Hold.HELD),
            "c": Renewals(1, Hold.HELD),
            "new": Renewals(0, Hold.HELD),
        }
        await store.renew(["b"])
        await store.let_go()
        await store.hold_back({"c": 1}, ["new"])
        assert await store.all_renewals() == {
            "a": Renewals(2),
            "b": Renewals(2),
            "c": Renewals(1, Hold.LET_GO),
            "new": Renewals(0),
        }
    finally:
        await store.aclose()


async def test_a_database_of_the_schema_before(url: str, cluster: Cluster) -> None:
    """It is one of this schema when it has been opened, and keeps what was counted."""
    store = PostgresStore(url)
    await store.open()
    await store.renew(["a"])
    await store.aclose()
    cluster.ask("UPDATE registry_head SET schema_version = 5", url)
    cluster.ask("UPDATE alembic_version SET version_num = '5'", url)
    cluster.ask("ALTER TABLE lease_renewals DROP COLUMN hold", url)
    with pytest.raises(StoreUnavailable, match="run nexus-registry migrate"):
        await PostgresStore(url, migrates=False).open()
    store = PostgresStore(url)
    await store.open()
    try:
        assert await store.all_renewals() == {"a": Renewals(1)}
    finally:
        await store.aclose()


async def test_a_head_that_went_back_is_noticed(url: str) -> None:
    """A head that does not continue the one that is known is StoreLost."""
    store = PostgresStore(url)
    await store.open()
    made = (await create(store, "a")).head
    await store.verify()
    later = (await create(store, "b")).head
    check_same(made, later)
    with pytest.raises(StoreLost):
        check_same(later, made)
    await store.aclose()


def test_an_older_postgresql_is_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the version that it is, and the one that is needed."""
    monkeypatch.setattr("hyper_registry.store.postgres.LEAST_VERSION", 990_000)
    with pytest.raises(StoreUnavailable, match=r"it is PostgreSQL \d+: version 99 or newer"):
        asyncio.run(PostgresStore(url).open())


def test_no_thread_stays(url: str) -> None:
    """What is opened and closed leaves nothing behind, connections included."""
    before = {one.name for one in threading.enumerate()}

    async def run() -> None:
        store = PostgresStore(url)
        await store.open()
        await create(store, "a")
        await store.aclose()

    asyncio.run(run())
    assert {one.name for one in threading.enumerate()} <= before
    with psycopg.connect(url) as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'nexus-registry'"
            " AND backend_start > now() - interval '1 minute' AND state <> 'idle'"
        ).fetchone()
    assert row == (0,)
