"""The nodes of a training find each other whatever a machine believes its own address to be."""

import socket
from pathlib import Path

import psutil
import pytest
from tiny_run import train

from tood.io.errors import UserError
from tood.training.processes import rendezvous as module
from tood.training.processes.rendezvous import find_rendezvous


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def own_address() -> tuple[str, str]:
    """An interface of this machine that is not loopback, and its address."""
    for name, addresses in psutil.net_if_addrs().items():
        for one in addresses:
            if one.family == socket.AF_INET and not one.address.startswith("127."):
                return name, one.address
    pytest.skip("no network")


@pytest.mark.parametrize("endpoint", ["node1", "node1:", ":29400", "node1:0", "node1:65536", "a b:1", "http://a:1", ""])
def test_what_is_no_endpoint_is_refused(endpoint: str) -> None:
    with pytest.raises(UserError, match=r"must be HOST:PORT, as in node1:29400\.$"):
        find_rendezvous(endpoint)


def test_a_host_that_is_not_known_is_named() -> None:
    with pytest.raises(UserError, match=r"no address is known for 'no-such-host\.invalid' \(.*\); give its address"):
        find_rendezvous("no-such-host.invalid:29400")


def test_the_machine_with_the_address_serves(port: int) -> None:
    interface, address = own_address()
    found = find_rendezvous(f"{address}:{port}")
    assert (found.address, found.interface, found.is_here) == (address, interface, True)
    with found.serving() as first, find_rendezvous(f"{address}:{port}").serving() as second:
        assert (first, second) == (True, False), "of two launches of one machine one serves"
    with found.serving() as again, find_rendezvous(f"127.0.0.1:{port}").serving() as unknown:
        assert (again, unknown) == (True, None)


def test_a_network_is_chosen_by_the_way_to_the_rendezvous(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    interface, address = own_address()
    monkeypatch.setattr(module, "_source", lambda family, place: address)
    found = find_rendezvous(f"192.0.2.7:{port}")
    assert (found.address, found.interface, found.is_here) == (address, interface, False)


def test_a_name_that_stands_for_this_machine_alone_gets_an_address_that_others_reach(
    monkeypatch: pytest.MonkeyPatch, port: int
) -> None:
    interface, address = own_address()
    known = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.1.1", port))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [known])
    monkeypatch.setattr(module, "_ELSEWHERE", (address, 9))
    found = find_rendezvous(f"node1:{port}")
    assert (found.address, found.interface, found.is_here) == (address, interface, True)


def test_the_loopback_device_stays_within_the_machine(port: int) -> None:
    for host in ("127.0.0.1", "127.0.0.2", "localhost"):
        found = find_rendezvous(f"{host}:{port}")
        assert (found.address, found.interface, found.is_here) == (None, None, False)


def test_a_user_chooses_the_address(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    monkeypatch.setenv("PET_LOCAL_ADDR", "127.0.0.1")
    assert find_rendezvous(f"127.0.0.2:{port}").interface == "lo"


def test_a_wrong_endpoint_is_one_sentence(project: Path) -> None:
    said = train(project, "atss", "--nodes", "2", "--rendezvous", "node1", status=2)
    assert said.splitlines()[-1].startswith("tood: --rendezvous node1: must be HOST:PORT")
