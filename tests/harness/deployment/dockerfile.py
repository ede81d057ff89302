"""Checks of deploy/Dockerfile and the images that it makes; each returns what is wrong."""

import re

from harness.deployment.compose_file import Compose, Problems, is_ours
from harness.repository.tree import ROOT

DOCKERFILE = "deploy/Dockerfile"


def broken_builds(compose: Compose, dockerfile: str) -> Problems:
    stages = stages_of(dockerfile)
    problems = []
    for name, service in compose["services"].items():
        if is_ours(service):
            build = service["build"]
            if not (ROOT / build["context"] / build["dockerfile"]).is_file():
                problems.append(f"{name}: no {build['dockerfile']}")
            if build["target"] not in stages:
                problems.append(f"{name}: no build target {build['target']}")
    return problems


def instructions_of(dockerfile: str) -> list[list[str]]:
    lines = [line for line in dockerfile.splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [line.split() for line in joined.splitlines() if line.strip()]


def stages_of(dockerfile: str) -> list[str]:
    return [words[3] for words in instructions_of(dockerfile) if words[0] == "FROM"]


def lineage(dockerfile: str, target: str) -> list[list[str]]:
    """Return the instructions of a stage, after those of the stages that it starts from."""
    stages: dict[str, list[list[str]]] = {}
    for words in instructions_of(dockerfile):
        if words[0] == "FROM":
            current = stages[words[3]] = list(stages.get(words[1], ()))
        current.append(words)
    return stages[target]


def user_of(dockerfile: str, target: str) -> str:
    users = [words[1] for words in lineage(dockerfile, target) if words[0] == "USER"]
    return users[-1] if users else "root"


def pinned_in(dockerfile: str, target: str) -> set[str]:
    """Return the names of the packages that a stage installs from its files of pins."""
    files = [
        ROOT / words[1]
        for words in lineage(dockerfile, target)
        if words[0] == "COPY" and words[1].endswith(".txt")
    ]
    return {
        line.partition("==")[0]
        for file in files
        for line in file.read_text().splitlines()
        if "==" in line and not line.startswith("#")
    }


def broken_copies(dockerfile: str, ignore: str) -> Problems:
    """Return sources that are not in the tree, not in the build context, or from no stage."""
    admitted = [line[1:] for line in ignore.splitlines() if line.startswith("!")]
    stages = stages_of(dockerfile)
    problems = []
    for instruction, *words in instructions_of(dockerfile):
        if instruction != "COPY":
            continue
        if words[0].startswith("--from="):
            if words[0].removeprefix("--from=") not in stages:
                problems.append(f"no stage {words[0]}")
            continue
        for source in words[:-1]:
            if not (ROOT / source).exists():
                problems.append(f"{source} is not in the tree")
            if source not in admitted:
                problems.append(f"{source} is not in the build context")
    return problems


def unpinned_images(compose: Compose, dockerfile: str) -> Problems:
    stages = stages_of(dockerfile)
    bases = [words[1] for words in instructions_of(dockerfile) if words[0] == "FROM"]
    named = [service["image"] for service in compose["services"].values() if not is_ours(service)]
    named += [base for base in bases if base not in stages]
    return [image for image in named if not re.search(r":\d+\.\d+", image)]


def unlocked_installs(dockerfile: str) -> Problems:
    """Return commands by which pip would fetch something without checking its digest."""
    return [
        command.strip()
        for words in instructions_of(dockerfile)
        for command in " ".join(words).split("&&")
        if "pip install" in command
        and not ("--require-hashes" in command or "--no-deps --no-build-isolation" in command)
    ]
