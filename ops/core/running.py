"""The command that runs in this process: its name, for AWS's logs, what it has announced, and the collection of all commands.

Invoke passes a task its settings and nothing else, so the executor and the task decorator store these here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import invoke

run = ""  # a random id of this run of a command, in each of its lines of the audit log
command = ""  # each request to AWS carries it in its user agent
changes = False  # whether it mostly changes the stack: the commands that read take --json, and few that change do
region = ""  # of its settings; the prices are those of one region
announced = ""  # the stack that it named before it removes something: it says so once
collection: invoke.Collection | None = None
