"""A folder for PATH whose ``tood`` and ``snakemake`` start at once, for what rules and DVC's stages start.

A script there asks a server, which is forked from the process that has imported everything, for a process with its
arguments, folder, environment and open files. It passes signals on, ends as that process ends, and takes it along when
it is killed. What it runs is not its child: tests that look at a tree of processes use the programs themselves.
"""

import atexit
import json
import os
import selectors
import shlex
import shutil
import signal
import socket
import sys
import tempfile
from contextlib import suppress
from functools import cache
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.context import ForkProcess
from pathlib import Path

from forked_command import SERVER, become

_PROGRAMS = ("tood", "snakemake")
_CLIENT = Path(__file__).with_name("forked_tool.py")
_LARGEST = 1 << 16


@cache
def forked_tools() -> Path:
    """The folder; its server lives as long as this process."""
    folder = Path(tempfile.mkdtemp(prefix="tools-"))
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(folder / "socket"))
    listener.listen()
    for program in _PROGRAMS:
        command = shlex.join([sys.executable, "-IS", str(_CLIENT), str(folder / "socket"), program])
        (folder / program).write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        (folder / program).chmod(0o755)
    (folder / "python").write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
    (folder / "python").chmod(0o755)
    ends, lives = SERVER.Pipe(duplex=False)
    server = SERVER.Process(target=_serve, args=(listener, ends))
    server.start()

    def stop() -> None:
        lives.close()
        server.join()
        shutil.rmtree(folder)

    atexit.register(stop)
    listener.close()
    ends.close()
    return folder


def _serve(listener: socket.socket, ends: Connection) -> None:
    """Start what clients ask for, until the process that started this one is gone."""
    waiting = selectors.DefaultSelector()
    waiting.register(listener, selectors.EVENT_READ)
    waiting.register(ends, selectors.EVENT_READ)
    while True:
        for key, _ in waiting.select():
            if key.fileobj is ends:
                return
            if key.fileobj is listener:
                client, _ = listener.accept()
                process = _start(client)
                waiting.register(client, selectors.EVENT_READ, process)
                waiting.register(process.sentinel, selectors.EVENT_READ, (client, process))
            elif isinstance(key.fileobj, socket.socket):
                _pass_on(key.fileobj, key.data, waiting)
            else:
                client, process = key.data
                process.join()
                waiting.unregister(process.sentinel)
                with suppress(KeyError, ValueError):  # killed meanwhile
                    waiting.unregister(client)
                with suppress(OSError):
                    client.sendall(str(process.exitcode).encode())
                client.close()
                process.close()


def _start(client: socket.socket) -> ForkProcess:
    request, files, _, _ = socket.recv_fds(client, _LARGEST, 3)
    while not request.endswith(b"\n"):
        request += client.recv(_LARGEST)
    process = get_context("fork").Process(target=_run, args=(request, files))
    process.start()
    for file in files:
        os.close(file)
    return process


def _run(request: bytes, files: list[int]) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    become(**json.loads(request))


def _pass_on(client: socket.socket, process: ForkProcess, waiting: selectors.BaseSelector) -> None:
    numbers = client.recv(_LARGEST)
    for number in numbers or [signal.SIGKILL]:  # nothing: the client was killed
        assert process.pid is not None
        os.kill(process.pid, number)
    if not numbers:
        waiting.unregister(client)
