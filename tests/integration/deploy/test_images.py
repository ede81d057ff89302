"""The images of deploy/Dockerfile hold what they are said to hold, from pins alone."""

import re
import tomllib

import pytest

from cli.embedded.services import ALLOCATION
from harness.deployment.compose_file import (
    MODEL_SERVICES,
    SECRETS,
    Compose,
    failing_healthchecks,
    interpolated,
    is_ours,
)
from harness.deployment.dockerfile import (
    broken_builds,
    broken_copies,
    instructions_of,
    pinned_in,
    unlocked_installs,
    unpinned_images,
    user_of,
)
from harness.repository.tree import ROOT
from shared.models.engine_packages import INSTALLS


def test_weights_are_kept_where_the_image_looks_for_them(default: Compose, dockerfile: str) -> None:
    home = re.search(r"HF_HOME=(\S+)", dockerfile)
    assert home is not None
    assert f"LONGHAND_MODELS_CACHE={home[1]}/" in dockerfile
    for name in ("weights", *MODEL_SERVICES):
        assert f"models:{home[1]}" in default["services"][name]["volumes"]


def test_every_process_reads_the_catalogue_and_the_weights_of_a_mounted_folder(
    raw: Compose, dockerfile: str
) -> None:
    """file:models/... in the image's catalogue is in that folder, as it is in a clone."""
    working = re.search(r"WORKDIR (\S+)", dockerfile)
    assert working is not None
    env = dict.fromkeys(SECRETS, "secret")
    env |= {"MODELS_DIR": "/srv/models", "LONGHAND_CATALOGUE": "models/models.toml"}
    for service in interpolated(raw, env)["services"].values():
        if is_ours(service):
            assert f"/srv/models:{working[1]}/models:ro" in service["volumes"]
            assert service["environment"]["LONGHAND_CATALOGUE"] == "models/models.toml"


def test_services_allocate_memory_in_an_image_as_they_do_beside_the_command_line(
    dockerfile: str,
) -> None:
    set_ = {
        word for words in instructions_of(dockerfile) if words[0] == "ENV" for word in words[1:]
    }
    assert set_ >= {f"{name}={value}" for name, value in ALLOCATION.items()}


@pytest.mark.parametrize("target", ["server", "gpu", "torch"])
def test_an_image_carries_the_engines_that_its_page_says_it_does(
    dockerfile: str, target: str
) -> None:
    pinned = pinned_in(dockerfile, target)
    carried = {
        engine
        for engine, install in INSTALLS.items()
        if {package.replace("_", "-") for package in install.packages} <= pinned
    }

    transformers = {"transformers-whisper", "transformers-ctc"}
    assert carried == INSTALLS.keys() - (set() if target == "torch" else transformers)


def test_model_workers_run_from_the_image_with_torch_where_the_environment_says_so(
    raw: Compose, default: Compose, dockerfile: str
) -> None:
    env = dict.fromkeys(SECRETS, "secret")
    torch = interpolated(raw, env | {"MODEL_CPU_IMAGE": "torch", "MODEL_GPU_IMAGE": "torch"})
    for name, service in torch["services"].items():
        if name in MODEL_SERVICES:
            assert (service["image"], service["build"]["target"]) == ("longhand-torch", "torch")
        else:
            assert service == default["services"][name]
    assert broken_builds(torch, dockerfile) == []
    assert failing_healthchecks(torch) == []


def test_the_image_with_torch_changes_no_pin_of_the_image_it_starts_from() -> None:
    pins = {
        file: dict(re.findall(r"^([a-z][^=]*)==(\S+)", (ROOT / file).read_text(), re.MULTILINE))
        for file in ("requirements/server.txt", "deploy/torch.txt")
    }
    server, torch = pins.values()
    assert {name: torch[name] for name in server.keys() & torch.keys()} == {
        name: server[name] for name in server.keys() & torch.keys()
    }


def test_every_image_is_built_from_a_stage_of_the_dockerfile(
    default: Compose, broken: Compose, dockerfile: str
) -> None:
    assert broken_builds(default, dockerfile) == []

    broken["services"]["model-gpu"]["build"]["target"] = "tpu"
    assert broken_builds(broken, dockerfile) == ["model-gpu: no build target tpu"]


def test_every_copied_file_is_in_the_tree_and_in_the_build_context(
    dockerfile: str, ignore: str
) -> None:
    assert broken_copies(dockerfile, ignore) == []

    more = f"{dockerfile}\nCOPY models.yaml \\\n  bench ./\nCOPY --from=rocm /opt /opt\n"
    assert broken_copies(more, ignore) == [
        "models.yaml is not in the tree",
        "models.yaml is not in the build context",
        "bench is not in the build context",
        "no stage --from=rocm",
    ]


def test_everything_the_distribution_packages_is_copied(dockerfile: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = set(project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"])
    copied = {
        word for words in instructions_of(dockerfile) if words[0] == "COPY" for word in words[1:-1]
    }

    assert packages | {"migrations", "models.toml"} <= copied


def test_every_foreign_image_has_a_version(
    default: Compose, broken: Compose, dockerfile: str
) -> None:
    assert unpinned_images(default, dockerfile) == []

    broken["services"]["postgres"]["image"] = "postgres:latest"
    unpinned = unpinned_images(broken, f"{dockerfile}\nFROM python AS a\nFROM debian AS b\n")
    assert unpinned == ["postgres:latest", "debian"]


def test_whatever_is_installed_is_checked_against_the_lock(dockerfile: str) -> None:
    assert unlocked_installs(dockerfile) == []
    assert unlocked_installs("RUN true && pip install \\\n  torch") == ["pip install torch"]


@pytest.mark.parametrize("target", ["server", "gpu", "torch"])
def test_processes_of_an_image_are_not_root(dockerfile: str, target: str) -> None:
    assert user_of(dockerfile, target) == "longhand"
    assert user_of(f"{dockerfile}\nUSER root\n", "torch") == "root"


def test_the_interpreter_is_the_one_the_wheels_are_pinned_for(dockerfile: str) -> None:
    lock = (ROOT / "requirements/lock.sh").read_text()
    pinned = re.search(r"--python-version (\d+\.\d+)", lock)
    assert pinned is not None

    assert instructions_of(dockerfile)[0][1].startswith(f"python:{pinned[1]}.")


def test_the_list_of_images_is_what_compose_the_chart_and_the_dockerfile_pull() -> None:
    listed = (ROOT / "deploy" / "images.txt").read_text().splitlines()[1:]
    files = [
        ROOT / "docker-compose.yml",
        ROOT / "deploy" / "Dockerfile",
        *(ROOT / "deploy" / "helm" / "longhand" / "templates").glob("*.yaml"),
    ]
    named = re.compile(r"^\s*(?:image:|FROM) ([\w./-]+:[\w.-]+)", re.MULTILINE)
    assert listed == sorted({name for file in files for name in named.findall(file.read_text())})
