"""The command line: one verb, one file, found by its name; a verb is imported when it is called."""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import sys
from typing import Any

import click

from hwkit import __version__
from hwkit.errors import BadInput, HwkitError

EPILOG = ("Exit codes: 0 fine; 1 over budget or a check failed; 2 a wrong word, file or model; "
          "3 a tool is missing; 4 a board or a child process failed; 130 interrupted.")


class _Verbs(click.Group):
    """Verbs are the modules of this package; their `command` is the click command."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_"))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        command: click.Command = importlib.import_module(f"{__name__}.{cmd_name}").command
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and args[0] not in self.list_commands(ctx):
            from hwkit.errors import UnknownName
            raise UnknownName("verb", args[0], self.list_commands(ctx), "hwkit --help")
        return super().resolve_command(ctx, args)


@click.group(cls=_Verbs, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="hwkit")
def cli() -> None:
    """Take a network to the device it must live on, prove what runs there, and report what it costs."""


def _tell(error: HwkitError) -> int:
    """One line on stderr (and the same as JSON on stdout when --json was asked for)."""
    log = getattr(error, "log", "")
    if log and os.environ.get("HWKIT_DEBUG"):
        click.echo(log, err=True)
    elif log and not error.hint:
        error.hint = "set HWKIT_DEBUG=1 to see its log"
    click.echo(f"hwkit: {error.line()}", err=True)
    if "--json" in sys.argv:
        click.echo(json.dumps({"error": {"type": type(error).__name__, "message": error.message,
                                         "hint": error.hint, "exit_code": error.exit_code}}))
    return error.exit_code


def main() -> None:
    """Entry point. A user's mistake is one line; a bug keeps its traceback."""
    try:
        code = cli.main(standalone_mode=False)
    except HwkitError as e:
        code = _tell(e)
    except click.exceptions.Abort:
        click.echo("hwkit: interrupted; what was there before is untouched", err=True)
        code = 130
    except click.ClickException as e:
        where = getattr(e, "ctx", None)
        code = _tell(BadInput(e.format_message(), f"{where.command_path} --help" if where else "hwkit --help"))
    except BrokenPipeError:
        sys.stderr.close()
        code = 0
    except OSError as e:
        from hwkit.files import unwritable
        full = unwritable(e)
        if full is None:
            raise
        code = _tell(full)
    sys.exit(code if isinstance(code, int) else 0)
