"""The Helm chart, rendered by Helm, and its objects checked as Kubernetes would check them."""

import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import yaml
from helm_python.chart import Chart

from harness.repository.tree import ROOT

FOLDER = ROOT / "deploy" / "helm" / "longhand"
SAMPLES = sorted((ROOT / "deploy" / "helm" / "samples").glob("*.yaml"))
KUBERNETES = ("1.29", "1.33", "1.37")
"""The oldest version that the chart takes, the newest with schemas, and one between."""

Object = dict[str, Any]


@cache
def chart() -> Chart:
    return Chart.load(FOLDER)


@cache
def custom_resources() -> Mapping[str, Any]:
    """Schemas of KEDA's kinds and the Prometheus operator's: the fields that the chart writes."""
    schemas: dict[str, Any] = json.loads(
        (Path(__file__).parent / "custom_resources.json").read_text()
    )
    return schemas


def sample(path: Path) -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load(path.read_text())
    return values


def rendered(values: Mapping[str, Any]) -> list[Object]:
    """Return the objects of a release named longhand.

    Raises:
        HelmError: the values are refused.
    """
    files = chart().render(dict(values), name="longhand", namespace="speech")
    texts = [text for name, text in files.items() if name.endswith(".yaml")]
    return [each for text in texts for each in yaml.safe_load_all(text) if each]


def problems(found: Object) -> Iterator[str]:
    """Yield what Kubernetes would refuse, or ignore, of an object."""
    name = f"{found['kind']} {found['metadata']['name']}"
    schema = custom_resources().get(found["kind"])
    if schema is not None:
        for error in jsonschema.Draft202012Validator(schema).iter_errors(found):
            yield f"{name}: {error.json_path}: {error.message}"
        return
    for version in KUBERNETES:
        try:
            kubernetes_validate.validate(found, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            yield f"{name} in {version}: {error}"


def containers(objects: list[Object]) -> Iterator[tuple[str, Object]]:
    """Yield each container with its object's name, those that run first included."""
    for found in objects:
        spec = found.get("spec", {}).get("template", {}).get("spec", {})
        for container in (*spec.get("initContainers", ()), *spec.get("containers", ())):
            yield found["metadata"]["name"], container
