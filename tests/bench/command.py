"""Runs the commands of gpu_check.py, so that one that fails or hangs says why and leaves nothing behind."""

import atexit
import ctypes.util
import functools
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

# Where the compiler of kernels through NVRTC looks for CUDA's headers when nothing tells it, and one that it includes.
CUDA_PLACES = ("/usr/local/cuda", "/opt/cuda", "/usr")
CUDA_HEADER = "include/cuda_fp16.h"
TAIL = 15
# The commands that run now, of all threads; none begins once they were told to end. A signal may come while the lock is held.
RUNNING: set[subprocess.Popen] = set()
STOPPED = threading.Event()
# What commands warned of, whether they ended well or not.
WARNINGS: list[str] = []
LOCK = threading.RLock()


class Failed(Exception):
    """A command that ended with an error or did not end, and what it had printed until then."""

    def __init__(self, why: str, output: str, errors: str) -> None:
        super().__init__(f"{why}: {reason(output, errors)}" if reason(output, errors) else why)
        self.output = output
        self.tail = [*errors.splitlines()[-TAIL:], *output.splitlines()[-TAIL:]]


class NoTime(Exception):
    """There was none left when the command should have begun."""


def call(*command, timeout: float, device: str = "cpu", kernels: str = "") -> str:
    """What the command prints. It gets a process group of its own: what it starts must not outlive it, since that would
    disturb whatever is measured next. The session stays the same, so that whoever ends all of it misses nothing. Which
    kernels it compiles and chooses is kept by the name `kernels`, so that those who run side by side do not wait for each
    other."""
    if timeout <= 0:
        raise NoTime
    quiet = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    environment = os.environ | libraries_of_wheels() | quiet | {"ENTROMASK_TEST_DEVICE": device}
    environment |= {"CUBECL_ENVIRONMENT": re.sub(r"[^\w.-]+", "-", kernels)} if kernels else {}
    parts = [str(part) for part in command]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "errors": "replace"}
    with LOCK:
        if STOPPED.is_set():
            raise Failed("not begun: stopped", "", "")
        process = subprocess.Popen(parts, env=environment, process_group=0, **pipes)
        RUNNING.add(process)
    why = ""
    try:
        output, errors = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        kill(process)
        output, errors = process.communicate()
        why = f"killed after {timeout:.0f} s"
    except BaseException:
        kill(process)
        raise
    finally:
        RUNNING.discard(process)
    with LOCK:
        told = (line.strip() for line in errors.splitlines() if re.search(r"\bWARN\b", line))
        WARNINGS.extend(line for line in told if line not in WARNINGS)
    why = "stopped" if STOPPED.is_set() else why
    if why or process.returncode:
        raise Failed(why or f"exit {process.returncode}", output, errors)
    return output


def stop(*_) -> None:
    """For a signal: ends all commands, those of other threads too, which nothing else would interrupt."""
    with LOCK:
        STOPPED.set()
        for process in list(RUNNING):
            kill(process)
    raise KeyboardInterrupt


def kill(process: subprocess.Popen) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def reason(output: str, errors: str) -> str:
    """The last lines that say something: of what went to stderr, or else of stdout, where tests print theirs."""
    lines = telling(errors) or telling(output)
    panics = [index for index, line in enumerate(lines) if "panicked at" in line]
    lines = lines[panics[0] : panics[0] + 2] if panics else lines[-3:]
    return " / ".join(lines)[-400:]


def telling(text: str) -> list[str]:
    """Without rows of tables, and without what Rust adds to each panic."""
    lines = [line.strip() for line in text.splitlines()]
    return [line for line in lines if line and not line.startswith(("|", "note: run with", "note: Some details"))]


def libraries_of_wheels() -> dict[str, str]:
    """Variables that point to what of CUDA PyTorch's wheels brought along, where it is not installed: kernels that are
    written in CUDA C++ need its headers and NVRTC when they run, matrix products need cuBLASLt."""
    installed = any((Path(place) / CUDA_HEADER).exists() for place in CUDA_PLACES)
    wheels = [Path(site) / "nvidia" / "cu13" for site in sys.path]
    wheel = next((wheel for wheel in wheels if (wheel / CUDA_HEADER).exists()), None)
    if wheel is None:
        return {}
    if "CUDA_PATH" not in os.environ and not installed:
        return {"CUDA_PATH": str(wheel), "LD_LIBRARY_PATH": search(str(wheel / "lib"))}
    # Of a toolkit without cuBLASLt everything else is used.
    return {} if ctypes.util.find_library("cublasLt") else {"LD_LIBRARY_PATH": search(alone(wheel / "lib"))}


def search(place: str) -> str:
    """After what the user names."""
    return ":".join([*filter(None, [os.environ.get("LD_LIBRARY_PATH")]), place])


@functools.cache
def alone(place: Path) -> str:
    """A folder with nothing but cuBLASLt of those in `place`."""
    folder = tempfile.TemporaryDirectory()
    for library in place.glob("libcublasLt.so*"):
        (Path(folder.name) / library.name).symlink_to(library)
    atexit.register(folder.cleanup)
    return folder.name
