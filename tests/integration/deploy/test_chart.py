"""The Helm chart: what it makes is what Kubernetes takes, and what this tree has."""

import re
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import psycopg
import pytest
import yaml
from click import Command, Context, Group
from helm_python.chart import lint
from helm_python.errors import HelmError
from psycopg.errors import InsufficientPrivilege
from pydantic import SecretStr
from sqlalchemy import Engine, make_url

from api.app import create_app
from docs.access_table import SOCKET, rows
from harness.deployment.chart import (
    FOLDER,
    KUBERNETES,
    SAMPLES,
    Object,
    chart,
    containers,
    problems,
    rendered,
    sample,
)
from harness.jobs.job_store import add_job, claim, prepare, transcribe
from harness.repository.tree import ROOT
from harness.servers.api_server import api
from shared import __version__
from shared.infra.roles import admit_roles
from shared.infra.settings import SCALER_ROLE, Settings
from shared.speech.audio.rate import SAMPLE_RATE
from worker.__main__ import main as worker
from worker.process.health import PATHS

VALUES = {path.stem: sample(path) for path in SAMPLES}
PASSWORD = "it's a scaler's"
OURS = re.compile(r"(?:.*/)?longhand-(\w+):")


@pytest.fixture(params=VALUES, scope="module")
def objects(request: pytest.FixtureRequest) -> list[Object]:
    return rendered(VALUES[request.param])


def test_there_is_a_sample_of_each_shape() -> None:
    assert set(VALUES) == {"trial", "fleet", "offline"}


def test_kubernetes_takes_every_object_and_knows_every_field(objects: list[Object]) -> None:
    assert [problem for each in objects for problem in problems(each)] == []


def test_a_misspelt_field_is_found(objects: list[Object]) -> None:
    found = deepcopy(next(each for each in objects if each["kind"] == "Deployment"))
    found["spec"]["template"]["spec"]["terminationGracePeriod"] = 60
    assert len(list(problems(found))) == len(KUBERNETES)


def test_every_object_is_referred_to_by_its_name(objects: list[Object]) -> None:
    named = {(each["kind"], each["metadata"]["name"]) for each in objects}
    assert len(named) == len(objects)
    for each in objects:
        if each["kind"] == "ScaledObject":
            assert ("Deployment", each["spec"]["scaleTargetRef"]["name"]) in named
        if each["kind"] in ("Service", "PodDisruptionBudget"):
            selector = each["spec"]["selector"]
            wanted = selector.get("matchLabels", selector)
            assert any(wanted.items() <= labels.items() for labels in pod_labels(objects)), each


def pod_labels(objects: list[Object]) -> Iterator[dict[str, str]]:
    for each in objects:
        template = each.get("spec", {}).get("template", {})
        if template:
            yield template["metadata"]["labels"]


def test_commands_are_those_of_the_programs(objects: list[Object]) -> None:
    ours = [each for _, each in containers(objects) if OURS.match(each["image"])]
    assert len(ours) >= 6
    for container in ours:
        python, option, module, *arguments = container["command"]
        assert (python, option) == ("python", "-m")
        if module == "api":
            assert arguments == ["--host", "0.0.0.0", "--port", "8000"]
        else:
            assert module == "worker"
            parse(worker, arguments)


def parse(command: Command, arguments: list[str]) -> None:
    """Parse a command line as the program does; nothing is run."""
    with command.make_context("worker", list(arguments)) as context:
        if isinstance(command, Group):
            _, subcommand, rest = command.resolve_command(context, arguments)
            assert subcommand is not None
            parse(subcommand, rest)
        else:
            assert isinstance(context, Context)


def test_images_are_targets_of_the_dockerfile(objects: list[Object]) -> None:
    targets = set(
        re.findall(r"^FROM \S+ AS (\w+)$", (ROOT / "deploy/Dockerfile").read_text(), re.M)
    )
    found = {ours[1] for _, each in containers(objects) if (ours := OURS.match(each["image"]))}
    assert found <= targets


def test_images_of_others_are_those_of_the_compose_file(objects: list[Object]) -> None:
    compose = (ROOT / "docker-compose.yml").read_text()
    for _, container in containers(objects):
        if not OURS.match(container["image"]):
            assert f"image: {container['image']}\n" in compose


def test_variables_are_settings_with_values_that_they_take(objects: list[Object]) -> None:
    for name, container in containers(objects):
        given = {}
        for variable in container.get("env", ()):
            if variable["name"].startswith("LONGHAND_"):
                setting = variable["name"].removeprefix("LONGHAND_").lower()
                assert setting in Settings.model_fields, (name, variable)
                if "value" in variable:
                    given[setting] = variable["value"]
        Settings.model_validate(given)


def test_probes_ask_for_what_is_served(objects: list[Object]) -> None:
    for name, container in containers(objects):
        ports = {port["name"] for port in container.get("ports", ())}
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            asked = container.get(probe, {}).get("httpGet")
            if asked is not None:
                assert asked["port"] in ports, name
                assert asked["path"] in (*PATHS, "/healthcheck"), name


def test_every_process_of_ours_has_probes_limits_and_no_rights(objects: list[Object]) -> None:
    for name, container in containers(objects):
        security = container["securityContext"]
        assert security["readOnlyRootFilesystem"], name
        assert security["capabilities"] == {"drop": ["ALL"]}, name
        assert not security["allowPrivilegeEscalation"], name
        assert "memory" in container["resources"]["limits"], name
    for each in objects:
        if each["kind"] in ("Deployment", "StatefulSet"):
            pod = each["spec"]["template"]["spec"]
            assert pod["securityContext"]["runAsNonRoot"]
            assert not pod["automountServiceAccountToken"]
            assert all("readinessProbe" in container for container in pod["containers"])


def test_secrets_are_named_and_never_shown() -> None:
    fleet = rendered(VALUES["fleet"])
    assert "Secret" not in {each["kind"] for each in fleet}
    keys = {
        variable["valueFrom"]["secretKeyRef"]["key"]
        for _, container in containers(fleet)
        for variable in container["env"]
        if "valueFrom" in variable
    }
    documented = (FOLDER / "README.md").read_text()
    assert all(f"`{key}`" in documented for key in keys)


def test_a_trials_secret_has_every_key_that_is_asked_for() -> None:
    trial = rendered(VALUES["trial"])
    (secret,) = (each for each in trial if each["kind"] == "Secret")
    for _, container in containers(trial):
        for variable in container.get("env", ()):
            if "valueFrom" in variable:
                reference = variable["valueFrom"]["secretKeyRef"]
                assert reference["name"] == secret["metadata"]["name"]
                assert reference["key"] in secret["stringData"]
    for key in ("database-url", "api-database-url", "worker-database-url"):
        assert make_url(secret["stringData"][key]).database == "longhand"
    Settings(storage_url=SecretStr(secret["stringData"]["storage-url"]))


def variables_of_api(objects: Any) -> dict[str, Any]:
    return {
        variable["name"]: variable.get("value")
        for name, container in containers(objects)
        if name == "longhand-api"
        for variable in container["env"]
    }


def test_models_without_workers_are_taken_jobs_for() -> None:
    variables = variables_of_api(rendered(VALUES["fleet"]))
    assert variables["LONGHAND_ON_DEMAND_MODELS"] == "whisper-large-v3"
    assert variables["LONGHAND_PUBLIC_URL"] == "https://longhand.example.com"


def test_small_models_that_share_workers_are_fetched_served_and_scaled_together() -> None:
    scaling = {"minReplicas": 0, "maxReplicas": 2, "targetAudioSeconds": 60}
    shared = {"id": "a.en", "alsoServes": ["b"], "image": "server", "scaling": scaling}
    for source, query in {
        "postgres": "longhand_backlog WHERE queue IN ('model.a.en', 'model.b')",
        "prometheus": '(longhand_queued_audio_seconds{queue=~"model\\\\.a\\\\.en|model\\\\.b"})',
    }.items():
        told = {"source": source, "prometheusUrl": "http://prometheus"}
        objects = rendered({"secret": "s", "models": [shared], "scaling": told})
        (deployment,) = (
            each
            for each in objects
            if each["kind"] == "Deployment" and "model" in each["metadata"]["name"]
        )
        assert deployment["metadata"]["name"] == "longhand-model-a-en"
        pod = deployment["spec"]["template"]["spec"]
        for container in pod["initContainers"] + pod["containers"]:
            assert container["command"][-2:] == ["--model", "a.en,b"]
        (scaled,) = (each for each in objects if each["kind"] == "ScaledObject")
        assert query in scaled["spec"]["triggers"][0]["metadata"]["query"]
        assert variables_of_api(objects)["LONGHAND_ON_DEMAND_MODELS"] == "a.en,b"


def test_a_catalogue_of_ones_own_is_mounted_where_the_processes_read_it() -> None:
    objects = rendered(VALUES["trial"] | {"catalogue": "[models.mine]\n"})
    (catalogue,) = (each for each in objects if each["kind"] == "ConfigMap")
    assert catalogue["data"] == {"models.toml": "[models.mine]\n"}
    for name, container in containers(objects):
        variables = {each["name"]: each.get("value") for each in container.get("env", ())}
        if "LONGHAND_CATALOGUE" in variables:
            assert {"name": "catalogue", "mountPath": "/catalogue", "readOnly": True} in container[
                "volumeMounts"
            ], name
            assert variables["LONGHAND_CATALOGUE"] == "/catalogue/models.toml"


WRONG: dict[str, Any] = {
    "no Secret": ({"secret": ""}, "secret: the name of a Secret"),
    "unknown value": ({"secret": "s", "apis": {}}, "apis"),
    "unknown within": ({"secret": "s", "api": {"replica": 2}}, "replica"),
    "no worker": ({"secret": "s", "api": {"replicas": 0}}, "replicas"),
    "no model": ({"secret": "s", "models": []}, "models"),
    "unknown image": ({"secret": "s", "models": [{"id": "a", "image": "tpu"}]}, "image"),
    "not a setting": ({"secret": "s", "settings": {"HOME": "/"}}, "HOME"),
    "a number": ({"secret": "s", "settings": {"LONGHAND_LEASE_S": 30}}, "LONGHAND_LEASE_S"),
    "no URL": ({"secret": "s", "otel": {"endpoint": "collector:4318"}}, "otel"),
    "a secret": (
        {"secret": "s", "otel": {"variables": {"OTEL_EXPORTER_OTLP_HEADERS": "key=secret"}}},
        "OTEL_EXPORTER_OTLP_HEADERS",
    ),
    "no host": ({"secret": "s", "ingress": {"enabled": True}}, "ingress.host"),
    "no address": (
        {
            "secret": "s",
            "scaling": {"source": "prometheus"},
            "cpu": {"scaling": {"enabled": True}},
        },
        "scaling.prometheusUrl",
    ),
}


@pytest.mark.parametrize(("values", "told"), WRONG.values(), ids=WRONG)
def test_wrong_values_are_refused_by_name(values: dict[str, Any], told: str) -> None:
    with pytest.raises(HelmError, match=re.escape(told)):
        rendered(values)


def test_helm_finds_nothing_to_complain_of() -> None:
    told = lint(FOLDER, VALUES["fleet"])
    assert told["errors"] == []
    assert chart().metadata["appVersion"] == __version__


def test_the_alerts_are_the_tested_ones() -> None:
    (rule,) = (each for each in rendered(VALUES["fleet"]) if each["kind"] == "PrometheusRule")
    assert rule["spec"] == yaml.safe_load((FOLDER / "rules.yml").read_text())
    assert rule["metadata"]["labels"]["release"] == "prometheus"
    tests = yaml.safe_load((ROOT / "deploy" / "prometheus" / "rules.test.yml").read_text())
    assert tests["rule_files"] == ["../helm/longhand/rules.yml"]


def test_every_process_knows_where_spans_go_and_what_the_collector_asks_for() -> None:
    told = 0
    for _, container in containers(rendered(VALUES["fleet"])):
        variables = {each["name"]: each for each in container.get("env", ())}
        if "LONGHAND_HEALTH_PORT" in variables:
            told += 1
            endpoint = variables["OTEL_EXPORTER_OTLP_ENDPOINT"]["value"]
            assert endpoint == VALUES["fleet"]["otel"]["endpoint"]
            assert variables["OTEL_TRACES_SAMPLER_ARG"]["value"] == "0.1"
            headers = variables["OTEL_EXPORTER_OTLP_HEADERS"]["valueFrom"]["secretKeyRef"]
            assert headers == {"name": "longhand", "key": "otel-headers", "optional": True}
    assert told >= 6


def test_nothing_is_told_of_traces_where_there_is_no_collector() -> None:
    for _, container in containers(rendered(VALUES["trial"])):
        assert not [each for each in container.get("env", ()) if each["name"].startswith("OTEL_")]


@pytest.fixture
def scaler(settings: Settings) -> Iterator[psycopg.Connection]:
    """A connection as KEDA has it."""
    admit_roles(settings.model_copy(update={"scaler_database_password": SecretStr(PASSWORD)}))
    url = make_url(settings.database_url.get_secret_value())
    with psycopg.connect(
        host=url.host,
        port=url.port,
        dbname=url.database,
        user=SCALER_ROLE,
        password=PASSWORD,
        autocommit=True,
    ) as connection:
        yield connection


def queries() -> dict[str, str]:
    """Return the queries that KEDA makes, for a model of the tests and for the CPU workers."""
    scaling = {"minReplicas": 0, "maxReplicas": 4, "targetAudioSeconds": 60}
    values = {
        "secret": "s",
        "models": [{"id": "oracle", "image": "server", "scaling": scaling}],
        "cpu": {"scaling": {"enabled": True}},
    }
    return {
        each["metadata"]["name"]: each["spec"]["triggers"][0]["metadata"]["query"]
        for each in rendered(values)
        if each["kind"] == "ScaledObject"
    }


def asked(scaler: psycopg.Connection, query: str) -> float:
    row = scaler.execute(query.encode()).fetchone()
    assert row is not None
    (value,) = row
    assert isinstance(value, float)
    return value


def test_what_keda_asks_is_nothing_when_idle_and_grows_with_the_backlog(
    scaler: psycopg.Connection, database: Engine
) -> None:
    model, cpu = (queries()[f"longhand-{name}"] for name in ("model-oracle", "cpu"))
    assert (asked(scaler, model), asked(scaler, cpu)) == (0.0, 0.0)
    first, second = add_job(database), add_job(database)
    assert (asked(scaler, model), asked(scaler, cpu)) == (0.0, 2.0)
    prepare(database, first, 3)
    of_one = asked(scaler, model)
    assert of_one > 0
    prepare(database, second, 3)
    assert asked(scaler, model) == pytest.approx(2 * of_one)
    held = claim(database, first, "transcribe")
    assert asked(scaler, model) == pytest.approx(2 * of_one), "what is in hand counts"
    transcribe(database, held)
    assert asked(scaler, model) == pytest.approx(5 / 3 * of_one)


def test_the_scaler_reads_nothing_else(scaler: psycopg.Connection) -> None:
    tables = scaler.execute(
        "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p')"
    ).fetchall()
    assert len(tables) > 15
    for (table,) in tables:
        with pytest.raises(InsufficientPrivilege):
            scaler.execute(f'SELECT FROM "{table}"'.encode())


def test_what_prometheus_is_asked_for_is_there(settings: Settings, database: Engine) -> None:
    prepare(database, add_job(database), 3)
    with api(settings) as client:
        metrics = client.get("/metrics").text
    for each in rendered(VALUES["offline"]):
        if each["kind"] == "ScaledObject":
            query = each["spec"]["triggers"][0]["metadata"]["query"]
            names = re.findall(r"longhand_\w+", query)
            assert len(names) == 2
            assert all(f'\n{name}{{queue="model.oracle"}} ' in metrics for name in names)
    assert 'longhand_oldest_step_age_seconds{queue="model.oracle"}' in metrics
    assert SAMPLE_RATE == 16_000, "longhand_backlog has it"


def test_every_websocket_has_a_path_that_leads_to_the_live_processes(settings: Settings) -> None:
    (ingress,) = (each for each in rendered(VALUES["fleet"]) if each["kind"] == "Ingress")
    (rule,) = ingress["spec"]["rules"]
    live = [
        path["path"]
        for path in rule["http"]["paths"]
        if path["backend"]["service"]["name"] == "longhand-live"
    ]
    served = [row.route.split() for row in rows(create_app(settings))]
    sockets = [path for method, path in served if method == SOCKET]
    assert len(sockets) >= 5
    for path in sockets:
        assert any(path == each or path.startswith(f"{each}/") for each in live), path
