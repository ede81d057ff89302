"""Jobs for models that nobody serves: refused, unless they shall wait."""

from collections.abc import Iterator

import httpx
import pytest
from sqlalchemy import Engine, text

from harness.jobs.registry import enter_worker
from harness.servers.api_server import (
    api,
    assert_problem,
    endless,
    open_upload,
    part,
    read_answer,
    stored,
)
from shared.infra.settings import Settings
from shared.infra.storage import Storage
from shared.store.counts import count_jobs
from shared.store.workers import SERVED_LATELY_S, forget_dead_workers, withdraw

FILE = {"file": ("a.wav", b"audio")}


@pytest.fixture
def client(settings: Settings) -> Iterator[httpx.Client]:
    """A client of a platform without a default model, that starts nothing on demand."""
    chosen = settings.model_copy(update={"default_model": "", "on_demand_models": ""})
    with api(chosen) as client:
        yield client


def post(client: httpx.Client, **fields: str) -> httpx.Response:
    return client.post("/jobs", data=fields, files=FILE)


def test_a_job_for_a_model_without_a_worker_is_refused_and_says_which_have_one(
    client: httpx.Client, database: Engine, storage: Storage
) -> None:
    enter_worker(database, model="starter")
    enter_worker(database, model="oracle", state="loading")
    before = stored(storage)

    problem = assert_problem(post(client, model="whisper-small"), 409, "model_not_served")

    assert problem["served_models"] == ["oracle", "starter"]
    assert "start a worker for 'whisper-small'" in problem["detail"]
    assert "wait_for_worker" in problem["detail"]
    assert sum(count_jobs(database).by_state.values()) == 0
    assert stored(storage) == before


def test_the_refusal_comes_before_the_file_is_read(client: httpx.Client) -> None:
    head = part("model", "whisper-small") + part("file")
    with open_upload(str(client.base_url), "Content-Length: 1000000") as connection:
        connection.sendall(head)  # and no byte of the file
        answer = read_answer(connection)
    assert answer.startswith("409")
    assert "model_not_served" in answer


@pytest.mark.parametrize("loading", [True, False])
def test_a_job_for_a_model_that_has_a_worker_is_taken(
    client: httpx.Client, database: Engine, loading: bool
) -> None:
    enter_worker(database, model="whisper-small", state="loading" if loading else "ready")
    assert post(client, model="whisper-small").status_code == 202


def test_a_form_that_names_its_model_after_the_file_is_refused_at_its_end(
    client: httpx.Client, database: Engine
) -> None:
    enter_worker(database, model="starter")
    headers = {"content-type": "multipart/form-data; boundary=b"}
    form = part("file") + b"x\r\n" + part("model", "{}") + b"--b--\r\n"

    served = client.post("/jobs", content=form.replace(b"{}", b"starter"), headers=headers)
    other = client.post("/jobs", content=form.replace(b"{}", b"oracle"), headers=headers)

    assert served.status_code == 202
    assert_problem(other, 409, "model_not_served")


def test_where_nothing_is_served_a_form_without_fields_is_refused_before_its_file_is_read(
    client: httpx.Client,
) -> None:
    answer = client.post(
        "/jobs", content=endless(), headers={"content-type": "multipart/form-data; boundary=b"}
    )
    problem = assert_problem(answer, 409, "model_not_served")
    assert "no worker serves 'whisper-base', nor any other model" in problem["detail"]


def test_a_job_that_shall_wait_is_taken_and_says_for_what(client: httpx.Client) -> None:
    answer = post(client, model="whisper-small", wait_for_worker="true")
    assert answer.status_code == 202, answer.text
    assert answer.json()["model"] == "whisper-small"


def test_waiting_for_a_worker_is_no_part_of_what_makes_jobs_equal(
    client: httpx.Client, database: Engine
) -> None:
    enter_worker(database, model="starter")
    post(client, model="starter")
    second = post(client, model="starter", wait_for_worker="true").json()
    assert second["waiting_for"]["code"] == "equal_job"


def test_a_job_may_name_a_model_by_another_of_its_names(client: httpx.Client) -> None:
    job = post(client, model="openai/whisper-base", wait_for_worker="true").json()
    assert job["model"] == "whisper-base"
    models = {model["id"]: model for model in client.get("/models").json()["models"]}
    assert "openai/whisper-base" in models["whisper-base"]["also_called"]


def test_a_model_on_demand_needs_no_worker(settings: Settings, database: Engine) -> None:
    chosen = settings.model_copy(
        update={"default_model": "", "on_demand_models": " whisper-small , oracle"}
    )
    with api(chosen) as client:
        assert post(client, model="whisper-small").status_code == 202
        problem = assert_problem(post(client, model="starter"), 409, "model_not_served")
        models = {model["id"]: model for model in client.get("/models").json()["models"]}
    assert problem["served_models"] == ["oracle", "whisper-small"]
    assert models["whisper-small"]["on_demand"]
    assert models["whisper-small"]["state"] == "absent"
    assert not models["starter"]["on_demand"]


@pytest.mark.parametrize(
    ("seen_s_ago", "status"), [(SERVED_LATELY_S - 60, 202), (SERVED_LATELY_S + 1, 409)]
)
@pytest.mark.parametrize("forgotten", [False, True])
def test_a_model_served_within_a_quarter_of_an_hour_counts_as_served(
    client: httpx.Client, database: Engine, seen_s_ago: float, status: int, forgotten: bool
) -> None:
    enter_worker(database, model="starter", seen_s_ago=seen_s_ago)
    if forgotten:
        assert forget_dead_workers(database, silent_s=300) == 1
    assert post(client, model="starter").status_code == status


def test_a_model_whose_workers_all_stopped_in_order_is_served_for_a_while(
    client: httpx.Client, database: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The API must notice that the database's clock was moved on, however soon it is asked again.
    monkeypatch.setattr("api.intake.options.KEEP_S", 0.0)
    withdraw(database, enter_worker(database, model="starter"))
    assert post(client, model="starter").status_code == 202
    with database.begin() as connection:
        connection.execute(
            text("UPDATE served_queues SET last_served_at = last_served_at - interval '15 min'")
        )
    assert_problem(post(client, model="starter"), 409, "model_not_served")


def test_a_worker_that_never_became_ready_has_served_nothing(
    client: httpx.Client, database: Engine
) -> None:
    withdraw(database, enter_worker(database, model="starter", state="loading"))
    assert_problem(post(client, model="starter"), 409, "model_not_served")


def test_an_older_end_does_not_hide_a_later_one(client: httpx.Client, database: Engine) -> None:
    withdraw(database, enter_worker(database, model="starter"))
    enter_worker(database, model="starter", seen_s_ago=SERVED_LATELY_S + 1)
    assert forget_dead_workers(database, silent_s=300) == 1
    assert post(client, model="starter").status_code == 202


def test_auto_gives_a_language_a_model_that_is_served_and_knows_it(
    client: httpx.Client, database: Engine
) -> None:
    enter_worker(database, model="starter")
    assert post(client).json()["model"] == "starter"
    refused = assert_problem(post(client, language="de"), 409, "model_not_served")
    assert "none of the served models knows language 'de'; those are starter" in refused["detail"]
    waits = post(client, language="de", wait_for_worker="true")
    assert waits.json()["model"] == "whisper-base"
    enter_worker(database, model="whisper-tiny")
    assert post(client, language="de").json()["model"] == "whisper-tiny"
    assert post(client, model="auto", task="translate").json()["model"] == "whisper-tiny"
    assert_problem(post(client, language="tlh"), 422, "unsupported_language")


def test_the_list_of_models_marks_the_one_that_a_job_gets_now(
    client: httpx.Client, database: Engine
) -> None:
    def marked() -> list[str]:
        models = client.get("/models").json()["models"]
        return [model["id"] for model in models if model["default"]]

    assert marked() == ["whisper-base"]
    enter_worker(database, model="whisper-tiny")
    assert marked() == ["whisper-tiny"]
    enter_worker(database, model="starter")
    assert marked() == ["starter"]
