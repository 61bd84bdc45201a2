"""How a script ends: what a person can set right is one line and status 2; a fault of our own is a traceback.

Every script imports this first, with the standard library alone, so that a signal that comes while torch is
imported ends in one line as well.
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

ROOT = Path(__file__).resolve().parents[1]
OURS = tuple(str(ROOT / name) + os.sep for name in ("worldmodel", "envs", "scripts"))
LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})
INSTALLED = {"site-packages", "dist-packages"}

# Errors that a person can set right, whatever code raises them; UnicodeError and JSON's errors are ValueErrors.
PLAIN = (ValueError, ImportError, OSError, FloatingPointError, MemoryError)
# Packages for files, settings, networks and engines: errors of their own classes are about these things.
PACKAGES = {
    "PIL", "aiohttp", "ale_py", "botocore", "deepmind_lab", "fsspec", "gymnasium", "h5py", "httpcore", "httpcore2",
    "httpx", "httpx2", "huggingface_hub", "hydra", "lightning_fabric", "lzma", "minari", "moviepy", "omegaconf",
    "requests", "s3fs", "safetensors", "urllib3", "vizdoom", "yaml", "zipfile", "zlib",
}  # fmt: skip
NAMED = {"worldmodel.data.collect.collect.EngineError", "torch.OutOfMemoryError"}
# Environments run inside these; whatever leaves them was raised by the environment.
ENGINES = {"ale_py", "deepmind_lab", "gymnasium", "minari", "vizdoom"}
DISK_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
NO_ROOM = ("No space left on device", "Disk quota exceeded", "File too large")
ROOM = "make room, then run the same command again"
AGAIN = 0.05  # seconds
STOPPED = "stopped; what is finished is whole, and the same command goes on from there"
STOPPED_ELSE = "stopped; the same command begins this work again"
RESUMED = {"collect", "train_tokenizer", "train_prior", "train_agent", "improve"}  # scripts that go on
OUR_FAULT = "error: this is a fault of worldmodel, not yours: please report the lines above and the command"

_process = os.getpid()
_early = False  # whether a script has begun, but its work has not: there is nothing to undo
_signum = 0  # of the signal that asked to leave
_elsewhere: list[BaseException] = []  # raised in threads and finalizers, where nobody can catch them


def door(work: Callable[[], object]) -> None:
    """Do the work of a script, and leave as the module says where that fails.

    Raises: SystemExit with status 2 for an error of the person, 1 for a fault of our own, 128 + n after signal n.
    """
    try:
        work()
        print(end="", flush=True)  # else a full disk or a closed pipe would show after the end
    except BaseException as error:
        end(error)
    if _elsewhere:
        end(_elsewhere[0])


def begin() -> None:
    """From now on there is work to undo: a signal raises SystemExit, where it ended the process before.

    While packages are imported, one of them may well swallow every error, and an exit with it.
    """
    global _early
    _early = False


def end(error: BaseException) -> NoReturn:
    """Leave because of an error."""
    if isinstance(error, KeyboardInterrupt):
        leave(signal.SIGINT)
    if isinstance(error, BrokenPipeError) and _closed(sys.stdout):
        _silence(sys.stdout)
        raise SystemExit(128 + 13) from None  # SIGPIPE, as other programs end in `| head`
    if isinstance(error, SystemExit) and not (_their_frame(error) or _from_engine(error)):
        raise error
    if _elsewhere and isinstance(_elsewhere[0], OSError) and not isinstance(error, OSError):
        error = _elsewhere[0]  # a writer's thread met the cause
    if not persons(error):
        traceback.print_exception(error)
        _say(OUR_FAULT)
        raise SystemExit(1)
    _say(f"error: {message(error)}")
    if _closed_or_full(sys.stdout):
        _silence(sys.stdout)
    raise SystemExit(2)


def leave(signum: int, frame: FrameType | None = None) -> NoReturn:
    """Leave because a person or the machine asked for it."""
    global _signum
    if os.getpid() == _process and not _signum:
        _signum = signum
        _say(STOPPED if Path(sys.argv[0]).stem in RESUMED else STOPPED_ELSE)
        if _early:
            os._exit(128 + signum)
    raise SystemExit(128 + signum)


def persons(error: BaseException) -> bool:
    """Whether a person can set it right: a value, a file, a package, a network, an environment or code of their own."""
    kind = type(error)
    if isinstance(error, PLAIN) or _package(kind.__module__) in PACKAGES:
        return True
    if any(f"{each.__module__}.{each.__qualname__}" in NAMED for each in kind.__mro__):
        return True
    return _full(error) or _refused(error) or _from_engine(error) or _their_frame(error) is not None


def message(error: BaseException) -> str:
    """An error on one line: what, and where in the person's own code."""
    text = " ".join(str(error).split())
    kind = type(error).__name__
    if isinstance(error, MemoryError):
        text = f"out of memory ({text or kind}): make batches, clips or frames smaller, or stop other programs"
    elif not isinstance(error, ValueError | TypeError | ImportError | OSError | FloatingPointError) or not text:
        text = f"{kind}: {text}" if text else kind
    if _full(error) and "make room" not in text:
        text = f"disk full ({text}); {ROOM}"
    if (place := _their_frame(error)) is not None and place not in text:
        text = f"{text if text.startswith(kind) else f'{kind}: {text}'} ({place})"
    notes = (" ".join(str(note).split()) for note in getattr(error, "__notes__", ()))
    line = "; ".join([text, *notes])
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in line)  # none that steers a terminal


def install() -> None:
    """Signals, and errors that nobody catches, end as the module says, from now on."""
    global _early
    _early = True
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        signum = getattr(signal, name, None)
        if signum is not None and signal.getsignal(signum) is not signal.SIG_IGN:  # nohup, and shells with &
            signal.signal(signum, leave)
    sys.excepthook = lambda kind, error, trace: end(error)
    threading.excepthook = lambda hook: _remember(hook.exc_value) or threading.__excepthook__(hook)
    sys.unraisablehook = lambda hook: _remember(hook.exc_value) or sys.__unraisablehook__(hook)
    warnings.formatwarning = _one_line
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # pyright: ignore[reportAttributeAccessIssue]


def _one_line(message: Warning | str, kind: type[Warning], name: str, line: int, source: str | None = None) -> str:
    """Our own warnings are for a person; those of libraries say where, for us."""
    text = " ".join(str(message).split())
    return f"warning: {text}\n" if _is_ours(name) else f"{name}:{line}: {kind.__name__}: {text}\n"


def _remember(error: BaseException | None) -> bool:
    """Whether an error in a thread or a finalizer was dealt with: it ends the script, but without a traceback."""
    if isinstance(error, SystemExit) and _signum:  # swallowed by a finalizer, though a person asked for it: again
        ident = threading.main_thread().ident
        threading.Timer(AGAIN, signal.pthread_kill, (ident, _signum)).start()
    if isinstance(error, OSError):
        _elsewhere.append(error)
    return isinstance(error, OSError | SystemExit)


def _full(error: BaseException) -> bool:
    """Whether a disk is full: libraries that are no Python say so in words."""
    if isinstance(error, OSError) and error.errno in DISK_FULL:
        return True
    return any(words in str(error) for words in NO_ROOM)


def _refused(error: BaseException) -> bool:
    """Whether our own code raised a TypeError on purpose: doors refuse values of wrong types like that."""
    if not isinstance(error, TypeError) or error.__traceback__ is None:
        return False
    *_, last = _trace(error)
    code = last.tb_frame.f_code
    return _is_ours(code.co_filename) and code.co_code[last.tb_lasti] == dis.opmap["RAISE_VARARGS"]


def _their_frame(error: BaseException) -> str | None:
    """Where in code of the person's own an error or its cause was raised, if it was: "FILE, line N"."""
    for trace in reversed([*_trace(error)]):
        name = trace.tb_frame.f_code.co_filename
        if _is_ours(name):
            break
        if name.endswith(".py") and not name.startswith(("<", *LIBRARIES)) and not INSTALLED & {*Path(name).parts}:
            return f"{name}, line {trace.tb_lineno}"
    return None if error.__cause__ is None else _their_frame(error.__cause__)


def _from_engine(error: BaseException) -> bool:
    """Whether an error left an environment's package, and none of our code after that."""
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
    return os.path.abspath(name).startswith(OURS)  # the script itself has the name that it was called by


def _package(module: str | None) -> str:
    return (module or "").partition(".")[0]


def _say(line: str) -> None:
    try:
        print(line, file=sys.stderr, flush=True)
    except OSError:  # nobody listens
        _silence(sys.stderr)


def _closed(stream: Any) -> bool:
    """Whether nobody reads from the pipe behind a stream any more."""
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
    """Let what is left in a stream go nowhere, so that nothing complains at the exit."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    except (AttributeError, OSError, ValueError):
        return


sys.path.insert(1, str(ROOT))  # the packages beside these scripts, not those of another checkout
if Path(getattr(sys.modules["__main__"], "__file__", None) or "").resolve().parent == ROOT / "scripts":
    install()
