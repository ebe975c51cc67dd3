"""The transfer by paramiko's SFTP `put` as a process; it prints {"seconds": 60.1, "sent": true}. Imports are minimal.

python -m bench.send_by_put FOLDER TARGET KEYS PORT
"""

from __future__ import annotations

import getpass
import json
import sys
import time
from typing import Any

import paramiko

from bench.transfer import HOST, Transfer


def put_folder(transfer: Transfer) -> None:
    """Send the folder in one SFTP session; each file's size is confirmed, as paramiko does by default."""
    key: dict[str, Any] = {"key_filename": str(transfer.keys.client), "allow_agent": False, "look_for_keys": False}
    with paramiko.SSHClient() as client:
        client.load_host_keys(str(transfer.keys.known_hosts))
        client.set_missing_host_key_policy(paramiko.RejectPolicy())
        client.connect(HOST, username=getpass.getuser(), sock=transfer.socket(), **key)
        sftp = client.open_sftp()
        sftp.mkdir(transfer.target)
        for path in sorted(transfer.folder.rglob("*")):  # a folder comes before what is in it
            there = f"{transfer.target}/{path.relative_to(transfer.folder).as_posix()}"
            if path.is_dir():
                sftp.mkdir(there)
            else:
                sftp.put(str(path), there)


if __name__ == "__main__":
    requested = Transfer.from_words(*sys.argv[1:])
    began = time.perf_counter()
    put_folder(requested)
    print(json.dumps({"seconds": time.perf_counter() - began, "sent": True}))
