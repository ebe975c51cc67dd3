"""OpenSSH's ProxyCommand: `python -m ops.box.proxy [SETTINGS]` finds the box, pushes the key, and copies the connection's bytes.

Each connection looks up the box again, so that a written SSH configuration stays valid.
"""

from __future__ import annotations

import sys
from pathlib import Path

import invoke

from ops.box import access, facts
from ops.core import entry, tunnel
from ops.core.aws.account import Account
from ops.core.errors import OpsError
from ops.core.paths import ROOT


def main(settings_file: str = "") -> None:
    entry.install()  # the environment is read as commands read it
    config = invoke.Config(project_location=ROOT, runtime_path=Path(settings_file) if settings_file else None)
    config.load_project()
    config.load_runtime()
    config.load_shell_env()
    account = Account.from_context(invoke.Context(config), "operator-infra")
    have = facts.read(account)
    access.prepare_login(account, access.check(have))
    tunnel.copy_stdio(access.open_socket(account, have))


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except OpsError as error:
        sys.exit(str(error))
