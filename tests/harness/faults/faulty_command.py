"""``python faulty_command.py ARGUMENTS``: ``longhand ARGUMENTS`` with faulty workers."""

import dataclasses
from typing import Any

import cli.embedded.services
from cli.embedded.child import Program


def faulty(*arguments: Any, **options: Any) -> Program:
    """Return the program; a worker as ``faulty_worker`` runs it."""
    program = Program(*arguments, **options)
    match program.command:
        case (python, "-P", "-m", "worker", *words):
            command = (python, "-P", "-m", "tests.harness.faults.faulty_worker", *words)
            return dataclasses.replace(program, command=command)
    return program


if __name__ == "__main__":
    cli.embedded.services.Program = faulty  # type: ignore[misc,assignment]
    from cli.main import main

    main()
