"""Rendezvous of the nodes of a training, and the network interface through which this machine reaches it.

torchrun would use the addresses of the machine's own host name. On Debian that is 127.0.1.1, which other machines
cannot reach, so the address on the route to the rendezvous is used instead.
"""

import ipaddress
import os
import re
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from tood.io.errors import UserError
from tood.io.lock import try_lock

_ENDPOINT = re.compile(r"(?P<host>\[[0-9A-Fa-f:]+\]|[\w.-]+):(?P<port>\d{1,5})", re.ASCII)
_ELSEWHERE = ("192.0.2.1", 9)  # reserved for documentation (RFC 5737); nothing is sent there
_OWN_ADDRESS = "PET_LOCAL_ADDR"  # torchrun's, with which a user chooses himself


@dataclass(frozen=True)
class Rendezvous:
    """A ``host:port`` as this machine sees it."""

    endpoint: str
    address: str | None
    """This machine's address for the other nodes; None if torchrun has to find it."""
    interface: str | None
    """The network interface with that address."""
    is_here: bool
    """Whether it is certain that this machine has to serve it."""

    @contextmanager
    def serving(self) -> Iterator[bool | None]:
        """Whether this launch serves it while the block runs; None if torchrun has to decide.

        Where several launches of one machine meet, the first serves.
        """
        if not self.is_here:
            yield None
            return
        port = self.endpoint.rpartition(":")[2]
        lock = try_lock(Path(tempfile.gettempdir()) / f"tood-rendezvous-{os.getuid()}-{port}")
        try:
            yield lock is not None
        finally:
            if lock is not None:
                lock.release()


def find_rendezvous(endpoint: str) -> Rendezvous:
    """Resolve ``endpoint`` (``host:port``). Raises UserError if it has another form or the host is unknown."""
    match = _ENDPOINT.fullmatch(endpoint)
    if match is None or not 0 < int(match["port"]) < 2**16:
        raise UserError(f"--rendezvous {endpoint}: must be HOST:PORT, as in node1:29400.")
    host, port = match["host"].strip("[]"), int(match["port"])
    try:
        family, _, _, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise UserError(
            f"--rendezvous {endpoint}: no address is known for '{host}' ({error.strerror or error}); give its address."
        ) from error
    own = _source(family, place)
    is_own_name = _is_loopback(str(place[0])) and not _is_loopback(host)
    if is_own_name:
        own = _source(socket.AF_INET, _ELSEWHERE)
    address = os.environ.get(_OWN_ADDRESS) or (own if own and not _is_loopback(own) else None)
    is_here = address is not None and (is_own_name or place[0] == own)
    return Rendezvous(endpoint, address, _interface(address), is_here)


def _source(family: int, place: tuple[object, ...]) -> str | None:
    """The address from which this machine would send to ``place``; None where no way leads there."""
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(place)
        except OSError:
            return None
        return str(probe.getsockname()[0])


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _interface(address: str | None) -> str | None:
    for name, addresses in psutil.net_if_addrs().items():
        if any(one.address == address for one in addresses):
            return str(name)
    return None
