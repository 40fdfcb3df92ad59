"""Refuses what is given in place of a task, with what to give instead."""

from __future__ import annotations

from sae_circuits.errors import require
from sae_circuits.tasks.task import Task


def require_task(task: object) -> None:
    """Refuse what is no task.

    Raises:
        ArgumentError: with how one is made.
    """
    made = "a Task, such as tasks.ioi(model) or Task.from_strings(model, clean, corrupt, ...)"
    require("task", task, Task, made)
