"""Worker of a `ProcessExecutor`: `python -m keras_qan.parallel.worker_main <socket> <threads>`."""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
from multiprocessing.connection import Connection

from keras_qan.parallel.call import Call, format_error


def use_threads(threads: int) -> None:
    """Let TensorFlow use so many threads in this process, which has not begun to use it.

    The order in which a sum is taken depends on their number, and its last bits on the order.

    Args:
      threads: how many; 0 for as many as there are cores.
    """
    # TensorFlow reads it when it begins; to import it for this would take seconds.
    os.environ["TF_NUM_INTRAOP_THREADS"] = str(threads)


def _end_with(descriptor: int) -> None:
    """End this process when the other end of the socket is gone, whatever it is doing."""
    poll = select.poll()
    poll.register(descriptor, select.POLLHUP | getattr(select, "POLLRDHUP", select.POLLHUP))
    poll.poll()
    os._exit(1)


def serve(descriptor: int, threads: int) -> None:
    """Run tasks until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for whoever gives the tasks
    threading.Thread(target=_end_with, args=(descriptor,), daemon=True).start()
    connection = Connection(descriptor)
    use_threads(threads)
    while True:
        try:
            function, arguments = connection.recv()
        except (EOFError, OSError):
            return
        try:
            answer = ("done", Call(function, arguments).perform())
        except Exception as error:
            answer = ("raised", format_error(error))
        connection.send(answer)


if __name__ == "__main__":
    serve(int(sys.argv[1]), int(sys.argv[2]))
