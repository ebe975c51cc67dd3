"""Our transfer as a process; it prints {"seconds": 0.7, "sent": true}. Imports are minimal, since they are timed too.

python -m bench.send_ours FOLDER TARGET KEYS PORT
"""

from __future__ import annotations

import getpass
import json
import sys
import time

from bench.transfer import HOST, Transfer
from ops.box.file_sync import build_file_set, send_files
from ops.core import ssh


def send_folder(transfer: Transfer) -> bool:
    """Return whether the files had to be sent."""
    with ssh.connect_to_host(
        HOST, getpass.getuser(), transfer.keys.client, transfer.keys.known_hosts, transfer.socket
    ) as link:
        return send_files(link, build_file_set(transfer.folder), transfer.target, transfer.folder.name)


if __name__ == "__main__":
    requested = Transfer.from_words(*sys.argv[1:])
    began = time.perf_counter()
    sent = send_folder(requested)
    print(json.dumps({"seconds": time.perf_counter() - began, "sent": sent}))
