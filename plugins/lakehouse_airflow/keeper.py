"""Keeps one Spark Connect server for a DAG run: starts it, tells where it is, and ends it when nobody needs it any more.

A process of its own, which outlives the task that starts it:

    python keeper.py FOLDER PORT IDLE COMMAND...

FOLDER holds the file ``token``, by which the server knows its clients. Its modification time is when the server was
last used. The server ends when the file is gone or another, or was not touched for IDLE seconds: so that none stays
when the scheduler is killed, and with it the task that would have ended it.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType

import psutil

TOKEN, SERVER = "token", "server.json"
PATIENCE = 10.0


def main(folder: Path, port: int, idle: float, command: list[str]) -> int:
    """Run the server until it ends, or is to end; returns its exit code."""
    signal.signal(signal.SIGTERM, _leave)
    token = (folder / TOKEN).read_text()
    # By the environment: an argument could be read by everybody on this host.
    environment = os.environ | {"SPARK_CONNECT_AUTHENTICATE_TOKEN": token}
    server = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL)
    process, told = psutil.Process(server.pid), False
    try:
        while server.poll() is None:
            if not told and _listens(process, port):
                _tell(folder, process, port)
                told = True
            reason = _over(folder, token, idle)
            if reason:
                print(f"The server is ended: {reason}.", flush=True)
                break
            time.sleep(1.0 if told else 0.2)
        else:
            print(f"The server has ended by itself, with {server.returncode}.", flush=True)
    finally:
        server.terminate()
        try:
            server.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            server.kill()
    return server.wait()


def _listens(process: psutil.Process, port: int) -> bool:
    """Whether the process itself listens: had another one the port, it would get to see the token."""
    with suppress(psutil.Error):
        return any(c.status == psutil.CONN_LISTEN and c.laddr.port == port for c in process.net_connections("tcp"))
    return False


def _tell(folder: Path, process: psutil.Process, port: int) -> None:
    """Write where the server is, in one step."""
    told = {"host": socket.gethostname(), "port": port, "pid": process.pid, "started": process.create_time()}
    new = folder / f"{SERVER}.new"
    new.write_text(json.dumps(told))
    new.replace(folder / SERVER)


def _over(folder: Path, token: str, idle: float) -> str:
    """Why the server is not needed any more; empty while it is."""
    try:
        used = (folder / TOKEN).stat().st_mtime
        same = (folder / TOKEN).read_text() == token
    except FileNotFoundError:
        same = False
    if not same:
        return "its run is over"
    return f"nobody has used it for {idle:.0f} seconds" if time.time() - used > idle else ""


def _leave(signum: int, frame: FrameType | None) -> None:
    sys.exit(128 + signum)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), sys.argv[4:]))
