"""Two processes that train together over gloo."""

import contextlib
import os
import socket
import subprocess
import sys
from pathlib import Path


def run_in_two(script: Path, folder: Path) -> Path:
    """Run a script twice, as the first and the second of two processes; both must end well."""
    port = _free_port()
    with contextlib.ExitStack() as stack:
        processes = [stack.enter_context(_start(script, folder, rank, port)) for rank in (0, 1)]
        for process in processes:
            stack.callback(process.kill)
        for process in processes:
            output, _ = process.communicate(timeout=180)
            assert process.returncode == 0, output[-3000:]
    return folder


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def _start(script: Path, folder: Path, rank: int, port: int) -> subprocess.Popen:
    known = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "MASTER_PORT": port}
    settings = {"MASTER_ADDR": "127.0.0.1", "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    environment = os.environ | settings | {name: str(value) for name, value in known.items()}
    command = [sys.executable, str(script), str(folder)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
