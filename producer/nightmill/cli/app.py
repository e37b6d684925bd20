"""The application: its commands, its version, and its errors as one line each."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.metadata import entry_points, version
from typing import Annotated, Final

import typer

from nightmill.cli.extras import extra_missing
from nightmill.cli.groups import GroupedCommands
from nightmill.cli.terminal import echo
from nightmill.errors import NightmillError
from nightmill.safety.streams import OutputError
from nightmill.setting_sources import PREFIX

GROUP: Final = "nightmill.commands"
MODULES: Final = {"pause": "control", "resume": "control"}
"""Command -> its module, where the two have different names."""
OWN: Final = (
    *("enqueue", "status", "wait", "pause", "resume", "cancel", "adjust", "lanes"),
    *("results", "show", "errors", "retry", "verify", "prune", "settings"),
    "report",
)
BAD_INPUT: Final = 2
HELP: Final = frozenset({"--help", "-h", "--version"})
HEALTHCHECK: Final = "--healthcheck"
ABORTED: Final = 1
DEFECT: Final = 1
"""As Python ends a program that raised."""
READER_GONE: Final = 141
"""As a shell counts a program that SIGPIPE ended: `| head` has what it wants."""

MORE: Final = (
    "More commands: run, worker, simulate, doctor come with: pip install 'nightmill[worker]'; "
    "serve, keys with: pip install 'nightmill[gateway]'"
)


def execute() -> None:
    """Run the command of the arguments, and exit: see `main`."""
    try:
        app = build(sys.argv[1:2])
        if HEALTHCHECK not in sys.argv:  # it is run every few seconds, and loads no settings
            _warn_of_unknown_variables()
        code = app(standalone_mode=False)
        sys.stdout.flush()
    except Exception as error:  # noqa: BLE001 - the class of usage errors has no public name
        code = _report(error)
    sys.exit(code)


def _report(error: Exception) -> int:
    """Print an error as one line, a defect with its traceback; return the exit code."""
    match error:
        case ExceptionGroup(exceptions=[only]) if isinstance(only, Exception):
            return _report(only)
        case OutputError(reader_gone=True):
            return READER_GONE
        case NightmillError():
            text = str(error)
        case ImportError():
            text = extra_missing(error)
        case FileNotFoundError(filename=None):
            text = f"the current directory: {error.strerror}"
        case OSError():
            text = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        case UnicodeEncodeError():  # such as an argument with bytes that are not UTF-8
            text = f"not UTF-8: {error.object!a:.200}; in the C locale, set PYTHONUTF8=1"
        case typer.Abort():
            echo("Aborted!", err=True)
            return ABORTED
        case _:
            return _report_usage(error)
    echo(f"error: {text}", err=True)
    return BAD_INPUT


def _warn_of_unknown_variables() -> None:
    """Name the variables that look like settings and are none; nothing else would tell."""
    if HELP & set(sys.argv[1:]) or not any(key.upper().startswith(PREFIX) for key in os.environ):
        return  # most commands need the settings anyway, but `--help` does not
    from nightmill.settings import warnings  # noqa: PLC0415

    for warning in warnings():
        echo(warning, err=True)


def _report_defect(error: Exception) -> int:
    """Print the traceback of a defect, without the credentials that its text may quote."""
    import traceback  # noqa: PLC0415 - seldom needed

    echo("".join(traceback.format_exception(error)), err=True, newline=False)
    return DEFECT


def _report_usage(error: Exception) -> int:
    """Print typer's error of a command's usage, return its exit code; any other is a defect.

    typer itself would print the arguments as they are, and a shell may have made them of the names
    of files.
    """
    show = getattr(error, "show", None)
    if show is None:
        return _report_defect(error)
    text = io.StringIO()
    show(text)
    echo(text.getvalue(), err=True, newline=False)
    return int(getattr(error, "exit_code", BAD_INPUT))


def build(arguments: Sequence[str] = ()) -> typer.Typer:
    """Return the application with every command that is installed.

    When the first of `arguments` is a command, only what it needs is imported.
    """
    app = typer.Typer(
        name="nightmill",
        cls=GroupedCommands,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,  # plain help: brackets stay, and rich need not be imported
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    first = arguments[0] if arguments else ""
    problem = None if first in OWN else _add_installed(app, first)
    if first not in _names(app):
        for name in (first,) if first in OWN else OWN:
            module = import_module(f"nightmill.cli.{MODULES.get(name, name)}")
            app.command()(getattr(module, name))
    app.callback(epilog=f"{MORE} ({problem})" if problem else None)(nightmill)
    return app


def _print_version(given: bool) -> None:
    if given:
        echo(f"nightmill {version('nightmill')}")
        raise typer.Exit


def nightmill(
    _version: Annotated[
        bool,
        typer.Option(
            "--version",
            help="Print the version.",
            is_eager=True,
            callback=_print_version,
        ),
    ] = False,
) -> None:
    """Run many prompts through the Messages API: each ends in exactly one stored result."""


def _names(app: typer.Typer) -> set[str]:
    return {each.callback.__name__ for each in app.registered_commands if each.callback}


def _add_installed(app: typer.Typer, first: str) -> ImportError | None:
    """Add the commands of other packages, of no further one when the command `first` is found.

    Return why one cannot be imported, None if all can.
    """
    problem = None
    for entry in entry_points(group=GROUP):
        try:
            register: Callable[[typer.Typer], None] = entry.load()
            register(app)
        except ImportError as error:
            problem = error
        if first in _names(app):
            break
    return problem
