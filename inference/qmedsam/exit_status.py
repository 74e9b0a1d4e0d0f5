"""How commands end: the one table of their exit statuses."""

DONE = 0
SOME_FAILED = 1  # of several cases; the others are done
NOTHING_RAN = 2
# Of commands that run many cases, of those that run one, and of those that serve.
OF_FOLDERS = (
    f"Exit status: {DONE} all cases done, {SOME_FAILED} some case failed, {NOTHING_RAN} nothing "
    "could run; stopped by a\nsignal, 128 and its number."
)
OF_FILES = (
    f"Exit status: {DONE} done, {NOTHING_RAN} nothing could run; stopped by a signal, 128 and its "
    "number."
)
OF_SERVERS = (
    f"Exit status: {DONE} ended by SIGINT or SIGTERM while it served, {NOTHING_RAN} nothing could "
    "run; stopped\nby a signal before, 128 and its number."
)


def of_signal(number: int) -> int:
    """Return the status of a command that a signal ended, as a shell reports it."""
    return 128 + number
