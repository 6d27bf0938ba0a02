"""The manners all tools share: flags, errors as one line, `--version`, `--seed`, no overwriting, a quiet TensorFlow."""

from __future__ import annotations

import faulthandler
import logging
import os
import signal
import sys
from collections.abc import Callable

from absl import flags

from tfplaces.common.errors import UserError
from tfplaces.version import __version__

# Exit codes: a user's mistake, and Ctrl-C and a kill as shells know them.
USER_ERROR = 2
INTERRUPTED = 130
TERMINATED = 143


def run(
    define_flags: Callable[[flags.FlagValues], None],
    main: Callable[[flags.FlagValues], int | None],
    argv: list[str] | None = None,
) -> None:
    """Runs a tool and exits the process.

    Args:
        define_flags: defines the tool's own flags on the values it is given.
        main: does the work and returns an exit code, None for 0; a `UserError` or `OSError` from it is the user's to
            mend and is printed as one line; anything else is a bug and is raised.
        argv: program name and arguments; by default those of the process.

    With the environment variable TFPLACES_DEBUG set, errors are raised and native logs shown.
    """
    argv = sys.argv if argv is None else argv
    # As Ctrl-C does, a kill goes through the clean-up of temporary files.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))
    debug = bool(os.environ.get("TFPLACES_DEBUG"))
    program = os.path.splitext(os.path.basename(argv[0]))[0]
    values = flags.FlagValues()
    define_flags(values)
    flags.DEFINE_boolean("overwrite", False, "Replace outputs that exist.", flag_values=values)
    flags.DEFINE_integer("seed", 0, "Of everything random.", lower_bound=0, upper_bound=2**31 - 1, flag_values=values)
    flags.DEFINE_boolean("version", False, "Print the version and exit.", flag_values=values)
    flags.DEFINE_boolean("help", False, "Print this and exit.", short_name="h", flag_values=values)
    try:
        # Before parsing, where a missing required flag would be an error.
        if any(a in ("--help", "-help", "-h") for a in argv[1:]):
            print(_help(program, main, values))
            sys.exit(0)
        if any(a in ("--version", "-version") for a in argv[1:]):
            print(f"tfplaces {__version__}")
            sys.exit(0)
        rest = values(argv)[1:]
        if rest:
            raise UserError(f"unexpected argument {rest[0]!r}; flags are written --name=value, see --help")
        if not debug:
            _quiet_native_logs()
        sys.exit(main(values) or 0)
    except BrokenPipeError:
        # The reader of standard output has gone, as in "| head"; Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (UserError, OSError, flags.Error) as error:
        if debug:
            raise
        print(f"{program}: {_one_line(error)}", file=sys.stderr)
        sys.exit(USER_ERROR)
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)


def _help(program: str, main: Callable, values: flags.FlagValues) -> str:
    description = sys.modules[main.__module__].__doc__ or ""
    lines = [f"{program}: {description.strip()}", "", "Flags:"]
    for name in sorted(set(values)):
        flag = values[name]
        if name == flag.name:
            default = "" if flag.default is None else f" (default: {flag.default_as_str})"
            lines.append(f"  --{name}: {flag.help}{default}")
    return "\n".join(lines)


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return " ".join(str(error).split()) or type(error).__name__


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


def size(text: str | None) -> tuple[int, int] | None:
    """Reads `HxW`, height and width in pixels.

    Raises:
        ValueError: it is not that.
    """
    if text is None:
        return None
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(p.isascii() and p.isdigit() and 1 <= int(p) <= 8192 for p in parts):
        raise UserError(f"--input_size={text}: expected HEIGHTxWIDTH in pixels, as in 224x320")
    return int(parts[0]), int(parts[1])


def check_model(path: str, *endings: str) -> None:
    """Refuses, before TensorFlow is imported, a model that is not there or of another kind.

    Raises:
        ValueError: there is no such file, or its name has none of the endings.
    """
    if not os.path.isfile(path):
        raise UserError(f"{path}: no such model file")
    if not path.lower().endswith(endings):
        raise UserError(f"{path}: not a model that this tool opens; it opens {', '.join(endings)}")


def check_output(path: str, overwrite: bool) -> None:
    """Refuses, before any work is done, an output that exists or that could not be written.

    Raises:
        ValueError: the path exists and overwrite is not set, or its folder does not exist.
    """
    if os.path.exists(path) and not overwrite:
        raise UserError(f"{path}: exists already; give --overwrite to replace it, or another --output")
    parent = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(parent):
        raise UserError(f"{path}: its folder {parent} does not exist; make it first")
