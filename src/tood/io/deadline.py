"""Deadline for calls to servers, also to slow ones that send a byte at a time and so renew every socket time-out."""

from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread
from typing import TypeVar

Result = TypeVar("Result")


def with_deadline(seconds: float, call: Callable[[], Result]) -> Result:
    """What ``call`` returns or raises, or TimeoutError after so many seconds.

    After a time-out the call goes on in a daemon thread, which nothing waits for.
    """
    outcome: Future[Result] = Future()

    def work() -> None:
        try:
            outcome.set_result(call())
        except BaseException as error:
            outcome.set_exception(error)

    Thread(target=work, daemon=True).start()
    return outcome.result(seconds)
