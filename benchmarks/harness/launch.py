"""Run a command, and print its exit status, seconds and peak memory as JSON.

    python -I -S benchmarks/harness/launch.py LIMIT_BYTES COMMAND [ARGUMENT ...]

Linux counts what a process's parent held at the fork into the peak of the child, so this small
program stands between. A limit of 0 is none. Standard library only.
"""

import json
import os
import resource
import subprocess
import sys
import time


def main() -> None:
    """Run the command of the arguments."""
    limit_bytes, *command = sys.argv[1:]
    if int(limit_bytes):
        resource.setrlimit(resource.RLIMIT_DATA, (int(limit_bytes), int(limit_bytes)))
    begin = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    measured = {
        "status": os.waitstatus_to_exitcode(status),
        "wall_s": time.perf_counter() - begin,
        "peak_bytes": usage.ru_maxrss * 1024,
    }
    json.dump(measured, sys.stdout)


if __name__ == "__main__":
    main()
