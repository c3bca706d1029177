"""An end to waiting for others, also for those who send a byte now and then and so renew every time-out."""

from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread
from typing import TypeVar

Result = TypeVar("Result")


def with_deadline(seconds: float, call: Callable[[], Result]) -> Result:
    """What ``call`` returns or raises, or TimeoutError after so many seconds.

    A call that is given up goes on in a thread that nothing waits for, also not the end of the process.
    """
    outcome: Future[Result] = Future()

    def work() -> None:
        try:
            outcome.set_result(call())
        except BaseException as error:
            outcome.set_exception(error)

    Thread(target=work, daemon=True).start()
    return outcome.result(seconds)
