"""Alerts and dashboards: they ask for metrics that there are, and fire where they should."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import prometheus_client
import promql_parser
import pytest
import yaml
from sqlalchemy import Engine

import worker.metrics
from harness.jobs.job_store import add_job
from harness.repository.tree import ROOT
from harness.servers.api_server import api
from shared.infra.settings import Settings
from worker.upkeep.tenants import TenantMetrics

DEPLOY = ROOT / "deploy"
RULES = DEPLOY / "helm" / "longhand" / "rules.yml"
RULE_TESTS = DEPLOY / "prometheus" / "rules.test.yml"
DASHBOARDS = sorted((DEPLOY / "grafana").glob("*.json"))
RUNBOOK = DEPLOY.parent / "docs" / "runbook.md"
PROMTOOL = shutil.which("promtool")
HELP = re.compile(r"^# HELP (\w+)", re.MULTILINE)
PARTS = re.compile(r"_(bucket|sum|count)$")
"""Of a histogram."""


@pytest.fixture
def known(settings: Settings, database: Engine) -> set[str]:
    """Return the metrics that an API process and the workers have."""
    add_job(database)
    with api(settings) as client:
        served = client.get("/metrics").text
    assert worker.metrics.AUDIO_S
    of_tenants = {metric.name for metric in TenantMetrics(database).collect()}
    names = set(HELP.findall(served + prometheus_client.generate_latest().decode()))
    # It is there once some jobs have ended.
    return names | of_tenants | {"longhand_estimated_drain_seconds"}


def metrics_of(expression: str) -> set[str]:
    """Return the metrics that a PromQL expression asks for.

    Raises:
        ValueError: it is no PromQL.
    """
    plain = expression.replace("$__rate_interval", "5m")
    plain = re.sub(r"\$(model|tenant)", ".+", plain)
    promql_parser.parse(plain)
    return {PARTS.sub("", name) for name in re.findall(r"\blonghand_\w+", plain)}


def alerts() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    rules: list[dict[str, Any]] = group["rules"]
    return rules


def expressions(path: Path) -> Iterator[str]:
    for panel in json.loads(path.read_text())["panels"]:
        for target in panel["targets"]:
            yield target["expr"]


def test_alerts_ask_for_metrics_that_there_are(known: set[str]) -> None:
    for alert in alerts():
        asked = metrics_of(alert["expr"])
        assert asked, alert["alert"]
        assert asked <= known, alert["alert"]


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_panels_ask_for_metrics_that_there_are(path: Path, known: set[str]) -> None:
    asked = [metrics_of(expression) for expression in expressions(path)]
    assert len(asked) >= 8
    assert all(asked)
    assert set().union(*asked) <= known


def test_no_metric_is_misnamed_unseen() -> None:
    with pytest.raises(ValueError, match="parenthesis"):
        metrics_of("sum(rate(longhand_jobs[5m])")
    assert metrics_of("rate(longhand_x_seconds_bucket[5m])") == {"longhand_x_seconds"}


def test_dashboards_can_be_brought_into_any_grafana() -> None:
    boards = [json.loads(path.read_text()) for path in DASHBOARDS]
    assert {path.stem for path in DASHBOARDS} == {"fleet", "live", "models", "tenants"}
    assert len({board["uid"] for board in boards}) == len(boards)
    for board in boards:
        sources = {panel["datasource"]["uid"] for panel in board["panels"]}
        assert sources == {"${datasource}"}
        assert board["templating"]["list"][0]["type"] == "datasource"


def test_every_alert_has_a_section_of_the_runbook() -> None:
    sections = re.findall(r"^## (\w+)$", RUNBOOK.read_text(), re.MULTILINE)
    assert [alert["alert"] for alert in alerts()] == sections
    for alert in alerts():
        name = alert["alert"]
        assert alert["annotations"]["runbook"] == f"docs/runbook.md#{name.lower()}"
        assert alert["labels"]["severity"] in ("page", "ticket")


def test_every_alert_is_tested_where_it_fires_and_where_it_does_not() -> None:
    tests = yaml.safe_load(RULE_TESTS.read_text())["tests"]
    asked = [each for test in tests for each in test["alert_rule_test"]]
    names = {alert["alert"] for alert in alerts()}
    assert {each["alertname"] for each in asked if each.get("exp_alerts")} == names
    assert {each["alertname"] for each in asked if not each.get("exp_alerts")} == names


@pytest.mark.skipif(PROMTOOL is None, reason="promtool, of Debian's prometheus, is not installed")
def test_alerts_fire_where_they_should_and_nowhere_else() -> None:
    assert PROMTOOL is not None
    done = subprocess.run(
        [PROMTOOL, "test", "rules", RULE_TESTS],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
