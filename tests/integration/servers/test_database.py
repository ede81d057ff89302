"""Transactions, and what becomes of them when the server ends, refuses or freezes."""

import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import psycopg
import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import IntegrityError, ProgrammingError

from harness.jobs.job_store import add_job
from harness.programs.workers import wait_until
from harness.servers.frozen import frozen_postgres
from shared.infra.database import after_commit, begin, fetch, listen, make_engine, read
from shared.infra.errors import (
    CommitUncertain,
    DatabaseBusy,
    DatabaseFull,
    DatabaseReadOnly,
    DatabaseUnavailable,
)
from shared.infra.settings import Settings
from shared.infra.sqlstates import cause_of

ONE = text("SELECT 1")


@pytest.fixture
def engine(settings: Settings) -> Iterator[Engine]:
    """A pool of one test's own."""
    own = make_engine(settings, pool_size=3, answer_s=60.0)
    yield own
    own.dispose()


@pytest.fixture
def impatient(settings: Settings) -> Iterator[Engine]:
    """A pool that does not wait for a server for long."""
    own = make_engine(settings, pool_size=3, answer_s=3.0)
    yield own
    own.dispose()


def backend(engine: Engine) -> int:
    with begin(engine) as connection:
        return int(connection.execute(text("SELECT pg_backend_pid()")).scalar_one())


def end(database: Engine, *pids: int) -> None:
    """End backends, and wait until they are gone."""
    with begin(database) as connection:
        for pid in pids:
            ended = text("SELECT pg_terminate_backend(:pid, 20000)")
            assert connection.execute(ended, {"pid": pid}).scalar_one()


@pytest.mark.parametrize("use", [begin, read])
def test_connections_that_the_server_has_closed_are_replaced_before_they_are_used(
    database: Engine, engine: Engine, use: object
) -> None:
    before = None
    for _ in range(5):
        with begin(engine) as one, begin(engine) as other:
            ask = text("SELECT pg_backend_pid()")
            pids = [each.execute(ask).scalar_one() for each in (one, other)]
        assert before is None or not set(pids) & set(before)
        end(database, *pids)
        with use(engine) as connection:  # type: ignore[operator]
            assert connection.execute(ONE).scalar_one() == 1
        before = pids


def test_nothing_is_done_twice_where_a_connection_is_replaced(
    database: Engine, engine: Engine
) -> None:
    with begin(database) as connection:
        connection.execute(text("DROP TABLE IF EXISTS done"))
        connection.execute(text("CREATE TABLE done (n int)"))
    try:
        for n in range(10):
            end(database, backend(engine))
            with begin(engine) as connection:
                connection.execute(text("INSERT INTO done VALUES (:n)"), {"n": n})
        with begin(database) as connection:
            found = connection.execute(text("SELECT n FROM done ORDER BY n")).scalars().all()
        assert found == list(range(10))
    finally:
        with begin(database) as connection:
            connection.execute(text("DROP TABLE done"))


def test_a_connection_that_breaks_within_a_transaction_is_an_outage_and_the_next_one_works(
    database: Engine, engine: Engine
) -> None:
    pid = 0

    def be_ended() -> None:
        nonlocal pid
        with begin(engine) as connection:
            pid = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
            end(database, pid)
            connection.execute(ONE)

    with pytest.raises(DatabaseUnavailable) as caught:
        be_ended()
    assert type(caught.value) is DatabaseUnavailable
    assert str(caught.value) == "Postgres ended the connection: it is shutting down"
    assert backend(engine) != pid


def test_a_connection_that_breaks_in_the_drivers_hands_leaves_no_traceback_in_the_log(
    database: Engine, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    def be_ended() -> None:
        with read(engine) as connection:
            (row,) = fetch(connection, "SELECT pg_backend_pid() AS pid", {})
            end(database, row["pid"])
            fetch(connection, "SELECT 1", {})

    with pytest.raises(DatabaseUnavailable):
        be_ended()
    assert not [record for record in caplog.records if record.name.startswith("sqlalchemy")]
    assert backend(engine)


def test_only_a_connection_lost_during_the_commit_leaves_it_uncertain(
    database: Engine, engine: Engine
) -> None:
    with pytest.raises(CommitUncertain), begin(engine) as connection:
        end(database, connection.execute(text("SELECT pg_backend_pid()")).scalar_one())
    # A commit that Postgres refuses with the connection intact has certainly written nothing.
    with begin(engine) as connection:
        connection.execute(
            text("""
                CREATE TEMP TABLE late (n int);
                CREATE FUNCTION pg_temp.refuse() RETURNS trigger LANGUAGE plpgsql AS
                $$ BEGIN RAISE EXCEPTION 'conflict' USING ERRCODE = '40001'; END $$;
                CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON late
                DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION pg_temp.refuse();
            """)
        )
    with pytest.raises(DatabaseBusy), begin(engine) as connection:
        connection.execute(text("INSERT INTO late VALUES (1)"))


@pytest.mark.parametrize(
    ("state", "kind", "sentence"),
    [
        ("25006", DatabaseReadOnly, "the database is read-only"),
        ("40001", DatabaseBusy, "Postgres gave up a transaction that conflicts with another"),
        ("40P01", DatabaseBusy, "Postgres gave up a transaction to resolve a deadlock"),
        ("53100", DatabaseFull, "the disk of Postgres is full"),
        ("53200", DatabaseBusy, "Postgres is out of memory"),
        ("53300", DatabaseBusy, "Postgres has no connection left"),
        ("55P03", DatabaseBusy, "a lock in Postgres was not to be had in time"),
        ("57014", DatabaseBusy, "Postgres canceled a statement: it took too long"),
        ("57P01", DatabaseUnavailable, "Postgres ended the connection: it is shutting down"),
        ("57P02", DatabaseUnavailable, "Postgres ended the connection: it restarts after a crash"),
        ("57P03", DatabaseUnavailable, "Postgres is starting up or shutting down"),
    ],
)
@pytest.mark.parametrize("by_driver", [False, True], ids=["begin", "fetch"])
def test_each_refusal_of_postgres_has_its_class_and_its_sentence(
    engine: Engine, state: str, kind: type[DatabaseUnavailable], sentence: str, by_driver: bool
) -> None:
    refusal = f"DO $$ BEGIN RAISE EXCEPTION 'own words' USING ERRCODE = '{state}'; END $$"

    def meet() -> None:
        if by_driver:
            with read(engine) as connection:
                fetch(connection, refusal, {})
        else:
            with begin(engine) as connection:
                connection.execute(text(refusal))

    with pytest.raises(DatabaseUnavailable) as caught:
        meet()
    assert (type(caught.value), str(caught.value)) == (kind, sentence)
    assert cause_of(caught.value) == f"{state} own words"


def test_a_read_only_database_is_told_as_that(engine: Engine) -> None:
    with pytest.raises(DatabaseReadOnly), begin(engine) as connection:
        connection.execute(text("SET TRANSACTION READ ONLY; CREATE TABLE never (n int)"))


def test_a_lock_that_two_transactions_want_crosswise_is_told_as_a_deadlock(
    engine: Engine,
) -> None:
    lock = text("SELECT pg_advisory_xact_lock(:key)")
    both = threading.Barrier(2)

    def cross(first: int, second: int) -> None:
        with begin(engine) as connection:
            connection.execute(lock, {"key": first})
            both.wait(60)
            connection.execute(lock, {"key": second})

    errors: list[BaseException] = []

    def try_to(first: int, second: int) -> None:
        try:
            cross(first, second)
        except DatabaseBusy as error:
            errors.append(error)

    threads = [threading.Thread(target=try_to, args=pair) for pair in ((1, 2), (2, 1))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [str(error) for error in errors] == [
        "Postgres gave up a transaction to resolve a deadlock"
    ]


def test_a_statement_that_takes_too_long_is_canceled_by_the_server(impatient: Engine) -> None:
    pid = backend(impatient)
    with pytest.raises(DatabaseBusy, match="too long"), begin(impatient) as connection:
        connection.execute(text("SELECT pg_sleep(60)"))
    assert backend(impatient) == pid, "the connection is kept"


def test_rows_are_those_of_the_statement_and_a_row_may_have_no_columns(engine: Engine) -> None:
    with begin(engine) as connection:
        numbers = connection.execute(
            text("SELECT n, 100 % n AS rest FROM generate_series(1, :most) AS n"), {"most": 3}
        ).all()
        bare = connection.execute(text("SELECT FROM generate_series(1, 2)"))
        none = connection.execute(text("SELECT FROM generate_series(1, 0)"))
        created = connection.execute(text("CREATE TEMPORARY TABLE numbers (n int) ON COMMIT DROP"))
        added = connection.execute(text("INSERT INTO numbers VALUES (1), (2)"))
        assert [(row.n, row.rest) for row in numbers] == [(1, 0), (2, 0), (3, 1)]
        assert (len(bare.all()), none.one_or_none()) == (2, None)
        assert (created.all(), added.all(), added.rowcount) == ([], [], 2)


def test_a_refused_statement_is_told_as_sqlalchemy_tells_it(engine: Engine) -> None:
    add_job(engine)
    with pytest.raises(IntegrityError, match="ck_jobs_state") as refused, begin(engine) as one:
        one.execute(text("UPDATE jobs SET state = :state"), {"state": "secret"})
    assert isinstance(refused.value.orig, psycopg.errors.CheckViolation)
    assert "[parameters" not in str(refused.value)


def test_a_mistake_of_ours_is_no_outage(engine: Engine) -> None:
    with pytest.raises(ProgrammingError), begin(engine) as connection:
        connection.execute(text("SELEC 1"))
    with pytest.raises(psycopg.errors.SyntaxError), read(engine) as connection:
        fetch(connection, "SELEC 1", {})


@pytest.mark.usefixtures("quick_answers")
@pytest.mark.parametrize("use", [begin, read])
def test_a_frozen_server_is_an_outage_and_is_used_again_when_it_goes_on(
    database: Engine, impatient: Engine, use: object
) -> None:
    def used_again() -> int:
        with suppress(DatabaseUnavailable):
            return backend(impatient)
        return 0

    def given_up_after_s() -> float:
        pid = wait_until(used_again)
        with frozen_postgres(database):
            began = time.monotonic()
            for _ in range(2):  # on the connection there is, and on a new one
                with (
                    pytest.raises(DatabaseUnavailable),
                    use(impatient) as connection,  # type: ignore[operator]
                ):
                    connection.execute(ONE)
            took_s = time.monotonic() - began
        assert wait_until(used_again) != pid
        return took_s

    # The machine may stand still meanwhile, but not each time.
    assert any(given_up_after_s() < 10 for _ in range(4))


def test_what_follows_a_commit_is_called_after_it_and_not_after_a_rollback(
    database: Engine, engine: Engine
) -> None:
    called: list[str] = []

    def note(name: str) -> None:
        with begin(engine) as connection:
            after_commit(connection, lambda: called.append(name))
            assert not called
            if name == "rolled back":
                raise KeyError

    with pytest.raises(KeyError):
        note("rolled back")
    note("committed")
    assert called == ["committed"]
    with begin(engine):
        pass
    assert called == ["committed"]


def test_a_listener_hears_and_ends_with_its_connection(database: Engine, engine: Engine) -> None:
    heard: list[tuple[str, str]] = []
    ended: list[DatabaseUnavailable] = []

    def hear() -> None:
        try:
            for messages in listen(engine, "another", "test_channel"):
                heard.extend(messages)
        except DatabaseUnavailable as error:
            ended.append(error)

    thread = threading.Thread(target=hear)
    thread.start()
    listening = text("SELECT pid FROM pg_stat_activity WHERE query = 'LISTEN \"test_channel\"'")

    def listeners() -> list[int]:
        with begin(database) as connection:
            return list(connection.execute(listening).scalars())

    wait_until(listeners)
    with begin(database) as connection:
        connection.execute(text("SELECT pg_notify('test_channel', 'hello')"))
    wait_until(lambda: heard)
    assert heard == [("test_channel", "hello")]
    end(database, *listeners())
    thread.join(60)
    assert len(ended) == 1
