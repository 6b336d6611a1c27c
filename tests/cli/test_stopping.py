"""One request to stop, and a second one."""

import signal
import subprocess
import sys

_ASKED = """
import os, signal, time
from halftone.cli.train import stopping
with stopping() as request:
    os.kill(os.getpid(), signal.SIGHUP)
    print("a hang-up is no request", request.signal is None, flush=True)
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGINT)
    print("going on to save", request.signal == signal.SIGTERM, flush=True)
    time.sleep(1.1)
    os.kill(os.getpid(), signal.SIGTERM)
    print("still there", flush=True)
"""


def test_D4_D5_signals_at_once_are_one_request_and_a_later_one_leaves() -> None:
    done = subprocess.run([sys.executable, "-c", _ASKED], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == -signal.SIGTERM
    assert done.stdout == "a hang-up is no request True\ngoing on to save True\n"
    assert done.stderr == "\nstopping after this step and saving; once more to leave at once\n"
