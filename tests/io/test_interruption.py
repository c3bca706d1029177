"""Commands that are asked to stop end in order, with one sentence and the status of the signal."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tood.cli.main import main
from tood.io import interruption
from tood.io.interruption import Terminated, interruptions_raised


@pytest.fixture(autouse=True)
def as_from_a_terminal() -> Iterator[None]:
    """What a shell starts in the background ignores SIGINT, and so would the tests."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize("times", [1, 2])
def test_a_command_that_is_asked_to_stop_tidies_up_and_says_so(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    number: signal.Signals,
    status: int,
    times: int,
) -> None:
    """Also when the signal comes twice, as that of ``timeout`` does."""

    def work(*_: object) -> None:
        (tmp_path / "half").touch()
        try:
            os.kill(os.getpid(), number)
        finally:
            if times == 2:
                os.kill(os.getpid(), number)
            (tmp_path / "half").unlink()

    monkeypatch.setattr("tood.verbs.show.show", work)
    monkeypatch.setattr("sys.argv", ["tood", "show"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == status
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "repeat the command" in said
    assert not list(tmp_path.iterdir())
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_second_decision_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interruption, "SAME_REQUEST", 0)
    with interruptions_raised():
        for _ in range(2):
            with pytest.raises(Terminated):
                os.kill(os.getpid(), signal.SIGTERM)


def test_what_a_process_ignores_it_goes_on_ignoring() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with interruptions_raised():
            os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
