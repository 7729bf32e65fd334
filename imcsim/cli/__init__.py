"""The command line: `imcsim evaluate | sweep | estimate | report | presets | devices`.

Bad input ends with exit code 2 and one line on stderr. With `--json` a command prints one JSON document on
stdout; numbers that JSON does not have are strings there ("inf").
"""

from __future__ import annotations

import sys
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

import imcsim
from imcsim.cli import devices, presets
from imcsim.cli.estimate import estimate
from imcsim.cli.evaluate import evaluate
from imcsim.cli.report import report
from imcsim.cli.sweep import sweep
from imcsim.errors import ImcsimError

BAD_INPUT = 2
"""Exit code."""


class _OneLineErrors(TyperGroup):
    """A group that reports bad input as one line on stderr, with exit code 2."""

    def main(self, *args: Any, **options: Any) -> Any:
        """Run the command line; see typer."""
        standalone = options.pop("standalone_mode", True)
        try:
            result = super().main(*args, **{**options, "standalone_mode": False})
        except (ImcsimError, OSError) as error:
            _fail(str(error))
        except Exception as error:
            if hasattr(error, "format_message"):  # a usage error of typer, whichever click it stands on
                _fail(error.format_message())
            raise
        if standalone:
            sys.exit(result if isinstance(result, int) else 0)
        return result


def _fail(message: str) -> NoReturn:
    typer.echo(f"imcsim: error: {' '.join(message.split())}", err=True)
    sys.exit(BAD_INPUT)


app = typer.Typer(cls=_OneLineErrors, pretty_exceptions_enable=False, rich_markup_mode="markdown")
app.command("evaluate")(evaluate)
app.command("sweep")(sweep)
app.command("estimate")(estimate)
app.command("report")(report)
app.add_typer(presets.app, name="presets")
app.add_typer(devices.app, name="devices")


def main() -> None:
    """Entry point of the `imcsim` command."""
    app(prog_name="imcsim")


@app.callback(invoke_without_command=True)
def _root(
    ctx: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """What a neural network does on an RRAM or SRAM in-memory-computing chip."""
    if version:
        typer.echo(imcsim.__version__)
        raise typer.Exit
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())
