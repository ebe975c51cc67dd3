"""The SSH server of bench.sync where OpenSSH's is not installed: asyncssh. It ends when stdin closes.

python -m bench.ssh_server KEYS      prints `port 2222`
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import asyncssh

from bench.transfer import Keys

CHUNK = 64 << 10


async def copy_stream(source: Any, to: Any) -> None:
    with suppress(OSError, asyncssh.Error):
        while data := await source.read(CHUNK):
            to.write(data)
            await to.drain()


async def run_shell_command(process: Any) -> None:
    """Run one command with sh; asyncssh calls this for each."""
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    child: Any = await asyncio.create_subprocess_exec("sh", "-c", process.command, **pipes)

    async def feed() -> None:
        await copy_stream(process.stdin, child.stdin)
        child.stdin.close()

    feeding = asyncio.ensure_future(feed())
    try:
        await asyncio.gather(copy_stream(child.stdout, process.stdout), copy_stream(child.stderr, process.stderr))
        process.exit(await child.wait())
    finally:
        feeding.cancel()
        with suppress(ProcessLookupError):
            child.kill()


async def serve_ssh(keys: Keys) -> None:
    """Serve SSH until stdin closes: sh runs the commands, and SFTP sees the whole disk."""
    server = await asyncssh.create_server(
        asyncssh.SSHServer,
        "127.0.0.1",
        0,
        server_host_keys=[str(keys.host)],
        authorized_client_keys=str(keys.allowed),
        process_factory=run_shell_command,
        sftp_factory=asyncssh.SFTPServer,
        encoding=None,
    )
    print(f"port {server.get_port()}", flush=True)
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(serve_ssh(Keys(Path(sys.argv[1]))))
