"""Starts a program through the server of ``forked_tools.py``: ``forked_tool.py SOCKET PROGRAM ARGUMENT...``."""

import json
import os
import signal
import socket
import sys


def main() -> int:
    address, program, *arguments = sys.argv[1:]
    request = {"folder": os.getcwd(), "program": program, "arguments": arguments, "environment": dict(os.environ)}
    line = f"{json.dumps(request)}\n".encode()
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(address)
        line = line[socket.send_fds(server, [line], [0, 1, 2]) :]
        server.sendall(line)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda number, _: server.sendall(bytes([number])))
        answer = server.recv(16)
    if not answer:
        print(f"{program}: the server that runs it is gone", file=sys.stderr)
        return 1
    status = int(answer)
    if status < 0:
        signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    return status


if __name__ == "__main__":
    sys.exit(main())
