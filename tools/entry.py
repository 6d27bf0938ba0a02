"""What all tools share: flags, errors in one line, `--version`, `--seed`, refusing to overwrite, a quiet TensorFlow."""

from __future__ import annotations

import contextlib
import faulthandler
import io
import logging
import math
import os
import signal
import sys
import warnings
from collections.abc import Callable
from typing import Any, TextIO

from absl import flags

from tfplaces.common.errors import DataWarning, UserError
from tfplaces.common.extras import MissingExtraError, needed_by
from tfplaces.common.files import check_replaceable
from tfplaces.common.text import printable
from tfplaces.version import __version__

# Exit codes: a user's mistake, and Ctrl-C as shells know it; a kill gives 128 and the signal's number.
USER_ERROR = 2
INTERRUPTED = 130


def run(
    define_flags: Callable[[flags.FlagValues], None],
    main: Callable[..., int | None],
    argv: list[str] | None = None,
    takes: str = "",
) -> None:
    """Runs a tool and exits the process.

    Args:
        define_flags: defines the tool's own flags on the values it is given.
        main: does the work and returns an exit code, None for 0; a `UserError` or `OSError` from it is the user's to
            mend and is printed as one line; anything else is a bug and is raised.
        argv: program name and arguments; by default those of the process.
        takes: what the arguments are that are no flags, such as "photos", where the tool takes any; `main` is given
            them as a list, and flags may stand behind them.

    With the environment variable TFPLACES_DEBUG set, errors are raised and native logs shown.
    """
    argv = sys.argv if argv is None else argv
    _open_standard_streams()
    # As Ctrl-C does, a kill and the end of a remote session go through the clean-up of temporary files.
    for signum in (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
        if signal.getsignal(signum) is not signal.SIG_IGN:  # as under nohup
            signal.signal(signum, lambda number, _: sys.exit(128 + number))
    # Whatever the user's other programs run Keras on.
    os.environ["KERAS_BACKEND"] = "tensorflow"
    debug = bool(os.environ.get("TFPLACES_DEBUG"))
    program = os.path.splitext(os.path.basename(argv[0]))[0]
    values = flags.FlagValues()
    define_flags(values)
    flags.DEFINE_boolean("overwrite", False, "Replace outputs that exist already.", flag_values=values)
    flags.DEFINE_integer("seed", 0, "The seed of everything that is drawn at random.", lower_bound=0,
                         upper_bound=2**31 - 1, flag_values=values)  # fmt: skip
    flags.DEFINE_boolean("version", False, "Print the version and exit.", flag_values=values)
    flags.DEFINE_boolean("help", False, "Print this text and exit.", short_name="h", flag_values=values)
    try:
        # Before parsing, where a missing required flag would be an error.
        if any(a in ("--help", "-help", "-h") for a in argv[1:]):
            print(_help(program, main, values))
            sys.exit(0)
        if any(a in ("--version", "-version") for a in argv[1:]):
            print(f"tfplaces {__version__}")
            sys.exit(0)
        values.set_gnu_getopt(bool(takes))
        rest = values(argv)[1:]
        if rest and not takes:
            raise UserError(f"unexpected argument {rest[0]!r}; flags are written --name=value, see --help")
        _check_finite(values)
        _expand_home(values)
        if not debug:
            _quiet_native_logs()
        with needed_by(program), contextlib.redirect_stdout(_Printable(sys.stdout)), warnings.catch_warnings():
            _show_warnings(program)
            code = (main(values, rest) if takes else main(values)) or 0
            sys.stdout.flush()
        sys.exit(code)
    except BrokenPipeError:
        # The reader of standard output has gone, as in "| head"; Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except MissingExtraError as error:
        if debug:
            raise
        print(error, file=sys.stderr)
        sys.exit(USER_ERROR)
    except (UserError, OSError, MemoryError, flags.Error) as error:
        if debug:
            raise
        print(f"{program}: {_one_line(error)}", file=sys.stderr)
        sys.exit(USER_ERROR)
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)


def _show_warnings(program: str) -> None:
    """Shows a warning about the user's data as one line, once, and other warnings as they were shown before."""
    others = warnings.showwarning
    shown: set[str] = set()

    def show(message: Warning | str, category: type[Warning], *rest: Any, **named: Any) -> None:
        if issubclass(category, DataWarning):
            if str(message) not in shown:  # a data set that is opened again
                shown.add(str(message))
                print(f"{program}: {printable(str(message))}", file=sys.stderr)
        else:
            others(message, category, *rest, **named)

    warnings.showwarning = show
    warnings.simplefilter("always", DataWarning)


class _Printable(io.TextIOBase):
    """A text stream that escapes, on its way to another, control characters: names may come from strangers' files."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(printable(text))
        return len(text)

    def flush(self) -> None:
        self._stream.flush()

    def fileno(self) -> int:
        return self._stream.fileno()

    def isatty(self) -> bool:
        return self._stream.isatty()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._stream.encoding


def _open_standard_streams() -> None:
    """Opens the standard streams that the caller has closed, as by `2>&-`, or a file opened later would become one."""
    for descriptor, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(descriptor)
        except OSError:
            # The lowest that is free, which is this one.
            os.open(os.devnull, os.O_RDONLY if mode == "r" else os.O_WRONLY)
        if getattr(sys, name) is None:
            stream = open(descriptor, mode, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)


def _check_finite(values: flags.FlagValues) -> None:
    """Refuses NaN and infinity, which absl takes for numbers within any bounds."""
    for name in values:
        value = values[name].value
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"--{name}={value}: expected a finite number")


def _expand_home(values: flags.FlagValues) -> None:
    """Replaces `~` and `~user` at the start of a path in any flag; no shell does that behind `--name=`.

    Of several paths, separated by commas, each is treated so. Paths within specs of data sets are expanded where the
    specs are read.
    """
    for name in values:
        value = values[name].value
        if isinstance(value, str) and "~" in value:
            # A file of just that name comes first.
            parts = [part if os.path.exists(part) else os.path.expanduser(part) for part in value.split(",")]
            values[name].value = ",".join(parts)


def _help(program: str, main: Callable, values: flags.FlagValues) -> str:
    description = sys.modules[main.__module__].__doc__ or ""
    lines = [f"{program}: {description.strip()}", "", "Flags:"]
    for name in sorted(set(values)):
        flag = values[name]
        if name == flag.name:
            default = "" if flag.default is None else f" (default: {flag.default_as_str})"
            lines.append(f"  --{name}: {flag.help}{default}")
    return "\n".join(lines)


def _one_line(error: BaseException) -> str:
    if isinstance(error, MemoryError):
        return f"not enough memory ({error})" if str(error) else "not enough memory"
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    else:
        text = " ".join(str(error).split()) or type(error).__name__
    return printable(os.fsdecode(text) if isinstance(text, bytes) else text)


def _quiet_native_logs() -> None:
    """Silences what TensorFlow's and LiteRT's native code logs at start-up and while converting.

    They write to file descriptor 2 and heed no level before their own initialisation, so the descriptor is redirected
    and Python's stderr kept on the old one. A crash of native code still prints a Python traceback.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1, encoding=sys.stderr.encoding, errors="backslashreplace")
    faulthandler.enable(sys.stderr)
    with open(os.devnull, "w") as null:
        os.dup2(null.fileno(), 2)
    logging.getLogger("tensorflow").setLevel(logging.ERROR)


def check_model(path: str, *endings: str) -> None:
    """Refuses, before TensorFlow is imported, a model that is not there or of another kind.

    Raises:
        UserError: there is no such file, or its name has none of the endings.
    """
    if not os.path.isfile(path):
        raise UserError(f"{path}: no such model file")
    if not path.lower().endswith(endings):
        raise UserError(f"{path}: not a model that this tool opens; it opens {', '.join(endings)}")


def check_output(path: str, overwrite: bool) -> None:
    """Refuses, before any work is done, an output that exists or that could not be written.

    Raises:
        UserError: the path exists and overwrite is not set, is a device, a pipe or a folder, or its folder does not
            exist or cannot be written to.
    """
    check_name(path)
    if os.path.lexists(path) and not overwrite:
        raise UserError(f"{path}: exists already; give --overwrite to replace it, or another --output")
    check_replaceable(path)
    parent = os.path.dirname(os.path.realpath(path))
    if not os.path.isdir(parent):
        raise UserError(f"{path}: its folder {parent} does not exist; make it first")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise UserError(f"{path}: its folder {parent} cannot be written to; change its permissions or name another")


def check_output_folder(path: str) -> None:
    """Refuses, before any work is done, an output folder that cannot be made or written to.

    Raises:
        UserError: the path is something else than a folder, or a folder above it cannot be written to.
    """
    there = os.path.realpath(path)
    while not os.path.lexists(there):
        check_name(there)
        there = os.path.dirname(there)
    if not os.path.isdir(there):
        raise UserError(f"{path}: {there} is no folder; name another --output")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"{path}: the folder {there} cannot be written to; change its permissions or name another")


def check_name(path: str) -> None:
    """Refuses the name of a file that no file system takes.

    Raises:
        UserError: the name is longer than 255 bytes.
    """
    name = os.path.basename(path)
    if len(os.fsencode(name)) > 255:
        raise UserError(f"{name[:40]}…: a file's name of {len(os.fsencode(name))} bytes; at most 255 are possible")
