"""A message that is lost is sent again, and a queue that is only slow is not filled with copies."""

from celery import Celery
from jobstore import add_job, claim, claim_step
from queues import take_messages
from shared.queue.dispatch import fill_queues, forget_stale_dispatches
from sqlalchemy import Engine, text

from shared.infra.settings import Settings


def age_dispatches(database: Engine, age_s: float) -> None:
    """Let what is dispatched and not claimed have been so for this long."""
    with database.begin() as connection:
        connection.execute(
            text("""
                UPDATE steps SET dispatched_at = now() - make_interval(secs => :age_s)
                WHERE state = 'queued' AND dispatched_at < 'infinity'
            """),
            {"age_s": age_s},
        )


def test_a_lost_message_is_sent_again_when_it_is_stale(
    database: Engine, broker: Celery, settings: Settings
) -> None:
    add_job(database)
    fill_queues(database, broker, settings)
    [step_id] = take_messages(broker, "prepare")  # taken and lost
    assert forget_stale_dispatches(database, least_age_s=60) == 0
    assert forget_stale_dispatches(database, least_age_s=0) == 1
    fill_queues(database, broker, settings)
    assert take_messages(broker, "prepare") == [step_id]


def test_a_queue_whose_real_wait_is_long_is_not_filled_with_copies(
    database: Engine, broker: Celery, settings: Settings
) -> None:
    add_job(database)
    fill_queues(database, broker, settings)
    claimed = claim_step(database, take_messages(broker, "prepare")[0], owner="x", lease_s=30)
    assert claimed is not None
    with database.begin() as connection:
        connection.execute(text("UPDATE steps SET dispatched_at = now() - interval '100 s'"))
    add_job(database)
    fill_queues(database, broker, settings)
    age_dispatches(database, 150)
    assert forget_stale_dispatches(database, least_age_s=1) == 0
    age_dispatches(database, 250)
    assert forget_stale_dispatches(database, least_age_s=1) == 1


def test_the_few_that_waited_long_do_not_put_off_what_is_lost(
    database: Engine, broker: Celery, settings: Settings
) -> None:
    for waited_s in (100, 100, 5, 5, 5):
        job_id = add_job(database)
        fill_queues(database, broker, settings)
        age_dispatches(database, waited_s)
        claim(database, job_id, "prepare")
    add_job(database)
    fill_queues(database, broker, settings)
    age_dispatches(database, 30)
    assert forget_stale_dispatches(database, least_age_s=1) == 1
