"""Triggers that record every change of a job or a step, so that the product can leave none out.

The rows go to ``test_history``, a table of the tests' own.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy
from sqlalchemy import Engine, text

from harness.faults.history import Change
from shared.infra.database import read

# The triggers are deferred: they fire at the commit, while the transaction still has its locks. So
# the order of the ids is the order of the commits, wherever two transactions change the same rows.
# A heartbeat and a change of turns change none of these columns. finished_at is among them, so that
# a step that is done twice, or a job that ends twice, is recorded twice.
_INSTALL = """
CREATE TABLE test_history (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    transaction text NOT NULL DEFAULT pg_current_xact_id()::text,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    writer text NOT NULL DEFAULT current_setting('application_name'),
    job_id uuid NOT NULL,
    state text NOT NULL,
    run int,
    step_id bigint,
    kind text,
    attempt int,
    epoch int,
    owner text
);
CREATE FUNCTION record_job() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO test_history (job_id, state, run) VALUES (NEW.id, NEW.state, NEW.run);
    RETURN NULL;
END $$;
CREATE FUNCTION record_step() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO test_history (job_id, step_id, kind, state, attempt, epoch, owner)
    VALUES (NEW.job_id, NEW.id, NEW.kind, NEW.state, NEW.attempt, NEW.epoch, NEW.lease_owner);
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER test_new_job AFTER INSERT ON jobs
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION record_job();
CREATE CONSTRAINT TRIGGER test_changed_job AFTER UPDATE ON jobs
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN ((OLD.state, OLD.run, OLD.finished_at)
          IS DISTINCT FROM (NEW.state, NEW.run, NEW.finished_at))
    EXECUTE FUNCTION record_job();
CREATE CONSTRAINT TRIGGER test_new_step AFTER INSERT ON steps
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION record_step();
CREATE CONSTRAINT TRIGGER test_changed_step AFTER UPDATE ON steps
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN ((OLD.state, OLD.attempt, OLD.epoch, OLD.lease_owner, OLD.finished_at)
          IS DISTINCT FROM (NEW.state, NEW.attempt, NEW.epoch, NEW.lease_owner, NEW.finished_at))
    EXECUTE FUNCTION record_step();
"""

_REMOVE = """
DROP FUNCTION record_job, record_step CASCADE;
DROP TABLE test_history;
"""


def record_changes(database: Engine) -> None:
    """Record every change of a job or a step from now on."""
    with database.begin() as connection:
        connection.execute(text(_INSTALL))


@contextmanager
def recorded(database: Engine) -> Iterator[None]:
    """Record every change within the block; what was recorded goes with it."""
    record_changes(database)
    try:
        yield
    finally:
        with database.begin() as connection:
            connection.execute(text(_REMOVE))


def read_changes(database: Engine) -> list[Change]:
    """Return all changes, in the order of their ids."""
    # Not in a transaction: an idle one is ended, and there may be a million rows.
    with read(database) as connection:
        rows = connection.execute(text("SELECT * FROM test_history ORDER BY id")).mappings().all()
    return [Change(**{**row, "writer": _pid(row["writer"])}) for row in rows]


def sign_changes() -> None:
    """Have each change say from which process it came: this one, or one forked from it later."""

    def sign(
        _dialect: object, _record: object, _arguments: object, parameters: dict[str, Any]
    ) -> None:
        parameters["application_name"] = f"process {os.getpid()}"

    sqlalchemy.event.listen(Engine, "do_connect", sign)


def _pid(application: str) -> int | None:
    found = re.fullmatch(r"process (\d+)", application)
    return int(found[1]) if found else None
