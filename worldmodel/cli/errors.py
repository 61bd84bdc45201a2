"""How a command ends: one line and status 2 for what the user can correct, a traceback for a fault of ours.

It needs the standard library alone and is installed first, so a signal during the import of torch also ends in one
line.
"""

import dis
import errno
import os
import select
import signal
import sys
import sysconfig
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, NoReturn

ROOT = Path(__file__).resolve().parents[2]
OURS = tuple(str(ROOT / name) + os.sep for name in ("worldmodel", "envs", "scripts"))
LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})
INSTALLED = {"site-packages", "dist-packages"}

# Errors that the user can correct, whatever code raises them; UnicodeError and JSON's errors are ValueErrors.
PLAIN = (ValueError, ImportError, OSError, FloatingPointError, MemoryError)
# Packages for files, settings, networks and engines; errors of their own classes are about these.
PACKAGES = {
    "PIL", "aiohttp", "ale_py", "botocore", "deepmind_lab", "fsspec", "gymnasium", "h5py", "httpcore", "httpcore2",
    "httpx", "httpx2", "huggingface_hub", "hydra", "lightning_fabric", "lzma", "minari", "moviepy", "omegaconf",
    "requests", "s3fs", "safetensors", "urllib3", "vizdoom", "yaml", "zipfile", "zlib",
}  # fmt: skip
NAMED = {"worldmodel.data.collect.collect.EngineError", "torch.OutOfMemoryError"}
# Environments run inside these packages, so what these raise is an error of the environment.
ENGINES = {"ale_py", "deepmind_lab", "gymnasium", "minari", "vizdoom"}
DISK_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
NO_ROOM = ("No space left on device", "Disk quota exceeded", "File too large")
ROOM = "make room, then run the same command again"
AGAIN = 0.05  # seconds
STOPPED = "stopped; finished parts are saved, and the same command continues from there"
STOPPED_ELSE = "stopped; the same command starts this work again"
RESUMED = {"make", "collect", "train_tokenizer", "train_prior", "train_agent", "improve"}  # commands that continue
OUR_FAULT = "error: this is a fault of worldmodel, not yours: please report the lines above and the command"

_process = os.getpid()
_command = ""  # the subcommand that runs
_early = False  # whether imports still run, so that there is nothing to undo
_signum = 0  # the signal that asked the command to stop
_other_errors: list[BaseException] = []  # raised in threads and finalizers, where no caller can catch them


def run_command(work: Callable[[], object]) -> None:
    """Do the work of a command, and exit if it fails.

    Raises: SystemExit with status 2 for what the user can correct, 1 for a fault of ours, 128 + n after signal n.
    """
    try:
        work()
        print(end="", flush=True)  # otherwise a full disk or a closed pipe would show after the end
    except BaseException as error:
        exit_with_error(error)
    if _other_errors:
        exit_with_error(_other_errors[0])


def start_work() -> None:
    """Let a signal raise SystemExit from now on, so that work is undone; before, it ends the process at once.

    While packages are imported, one of them may swallow every exception, SystemExit included.
    """
    global _early
    _early = False


def exit_with_error(error: BaseException) -> NoReturn:
    """Exit because of an error."""
    if isinstance(error, KeyboardInterrupt):
        exit_on_signal(signal.SIGINT)
    if isinstance(error, BrokenPipeError) and _closed(sys.stdout):
        _silence(sys.stdout)
        raise SystemExit(128 + 13) from None  # SIGPIPE, as other programs end in `| head`
    if isinstance(error, SystemExit) and not (_user_frame(error) or _from_engine(error)):
        raise error
    if _other_errors and isinstance(_other_errors[0], OSError) and not isinstance(error, OSError):
        error = _other_errors[0]  # a writer's thread met the cause
    if not is_user_error(error):
        traceback.print_exception(error)
        _print_line(OUR_FAULT)
        raise SystemExit(1)
    _print_line(f"error: {message(error)}")
    if _closed_or_full(sys.stdout):
        _silence(sys.stdout)
    raise SystemExit(2)


def exit_on_signal(signum: int, frame: FrameType | None = None) -> NoReturn:
    """Exit because of a signal."""
    global _signum
    if os.getpid() == _process and not _signum:
        _signum = signum
        _print_line(STOPPED if _command in RESUMED else STOPPED_ELSE)
        if _early:
            os._exit(128 + signum)
    raise SystemExit(128 + signum)


def is_user_error(error: BaseException) -> bool:
    """Whether the user can correct it: a value, a file, a package, a network, an environment, or code of their own."""
    kind = type(error)
    if isinstance(error, PLAIN) or _package(kind.__module__) in PACKAGES:
        return True
    if any(f"{each.__module__}.{each.__qualname__}" in NAMED for each in kind.__mro__):
        return True
    return _is_disk_full(error) or _refused_by_us(error) or _from_engine(error) or _user_frame(error) is not None


def message(error: BaseException) -> str:
    """An error on one line: what, and where in the user's own code."""
    text = " ".join(str(error).split())
    kind = type(error).__name__
    if isinstance(error, MemoryError):
        text = f"out of memory ({text or kind}): make batches, clips or frames smaller, or stop other programs"
    elif not isinstance(error, ValueError | TypeError | ImportError | OSError | FloatingPointError) or not text:
        text = f"{kind}: {text}" if text else kind
    if _is_disk_full(error) and "make room" not in text:
        text = f"disk full ({text}); {ROOM}"
    if (place := _user_frame(error)) is not None and place not in text:
        text = f"{text if text.startswith(kind) else f'{kind}: {text}'} ({place})"
    notes = (" ".join(str(note).split()) for note in getattr(error, "__notes__", ()))
    line = "; ".join([text, *notes])
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in line)  # no control characters


def install(command: str) -> None:
    """Handle signals and uncaught errors of a subcommand as the module says, from now on."""
    global _early, _command
    _early, _command = True, command
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        signum = getattr(signal, name, None)
        if signum is not None and signal.getsignal(signum) is not signal.SIG_IGN:  # nohup, and shells with &
            signal.signal(signum, exit_on_signal)
    sys.excepthook = lambda kind, error, trace: exit_with_error(error)
    threading.excepthook = lambda hook: _remember(hook.exc_value) or threading.__excepthook__(hook)
    sys.unraisablehook = lambda hook: _remember(hook.exc_value) or sys.__unraisablehook__(hook)
    warnings.formatwarning = _one_line
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # pyright: ignore[reportAttributeAccessIssue]


def _one_line(message: Warning | str, kind: type[Warning], name: str, line: int, source: str | None = None) -> str:
    """Our own warnings are one plain line; those of libraries say where they come from."""
    text = " ".join(str(message).split())
    return f"warning: {text}\n" if _is_ours(name) else f"{name}:{line}: {kind.__name__}: {text}\n"


def _remember(error: BaseException | None) -> bool:
    """Whether an error in a thread or a finalizer is handled: it ends the command without a traceback."""
    if isinstance(error, SystemExit) and _signum:  # a finalizer swallowed the exit: signal again
        ident = threading.main_thread().ident
        threading.Timer(AGAIN, signal.pthread_kill, (ident, _signum)).start()
    if isinstance(error, OSError):
        _other_errors.append(error)
    return isinstance(error, OSError | SystemExit)


def _is_disk_full(error: BaseException) -> bool:
    """Whether a disk is full; libraries in other languages only say so in words."""
    if isinstance(error, OSError) and error.errno in DISK_FULL:
        return True
    return any(words in str(error) for words in NO_ROOM)


def _refused_by_us(error: BaseException) -> bool:
    """Whether a `raise` statement of our own code raised a TypeError, for a value of a wrong type."""
    if not isinstance(error, TypeError) or error.__traceback__ is None:
        return False
    *_, last = _trace(error)
    code = last.tb_frame.f_code
    return _is_ours(code.co_filename) and code.co_code[last.tb_lasti] == dis.opmap["RAISE_VARARGS"]


def _user_frame(error: BaseException) -> str | None:
    """Where in the user's own code an error or its cause was raised, "FILE, line N"; None if elsewhere."""
    for trace in reversed([*_trace(error)]):
        name = trace.tb_frame.f_code.co_filename
        if _is_ours(name):
            break
        if name.endswith(".py") and not name.startswith(("<", *LIBRARIES)) and not INSTALLED & {*Path(name).parts}:
            return f"{name}, line {trace.tb_lineno}"
    return None if error.__cause__ is None else _user_frame(error.__cause__)


def _from_engine(error: BaseException) -> bool:
    """Whether an environment's package raised an error, and none of our code after it."""
    for trace in reversed([*_trace(error)]):
        if _is_ours(trace.tb_frame.f_code.co_filename):
            return False
        if _package(trace.tb_frame.f_globals.get("__name__")) in ENGINES:
            return True
    return False


def _trace(error: BaseException) -> Iterator[TracebackType]:
    trace = error.__traceback__
    while trace is not None:
        yield trace
        trace = trace.tb_next


def _is_ours(name: str) -> bool:
    return os.path.abspath(name).startswith(OURS)  # a script has the name it was called by


def _package(module: str | None) -> str:
    return (module or "").partition(".")[0]


def _print_line(line: str) -> None:
    try:
        print(line, file=sys.stderr, flush=True)
    except OSError:  # stderr is closed
        _silence(sys.stderr)


def _closed(stream: Any) -> bool:
    """Whether the reader of the pipe behind a stream is gone."""
    try:
        poll = select.poll()
        poll.register(stream.fileno(), select.POLLOUT)
        return any(event & select.POLLERR for _, event in poll.poll(0))
    except (AttributeError, OSError, ValueError):  # no poll here, or no real stream
        return False


def _closed_or_full(stream: Any) -> bool:
    try:
        stream.flush()
    except (OSError, ValueError):
        return True
    return False


def _silence(stream: Any) -> None:
    """Send what is left in a stream to the null device, so that the exit raises nothing."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    except (AttributeError, OSError, ValueError):
        return
