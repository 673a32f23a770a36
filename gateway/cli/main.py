"""The program `hearthgate`: its nouns, and how an error leaves it."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli import (
    approvals,
    audit,
    consent,
    home,
    key,
    lockdown,
    permission,
    permission_ask,
    plugin,
    plugin_author,
    plugin_reload,
    plugin_timeline,
    plugin_tools,
    plugin_vetting,
    policy_proof,
    traffic,
)
from gateway.cli.call import HOME_HELP, JSON_HELP, Defaults
from gateway.cli.output import fail
from gateway.errors import HearthgateError
from gateway.own_log import set_up_own_log

DEBUG_VARIABLE = "HEARTHGATE_DEBUG"

app = typer.Typer(
    name="hearthgate",
    help="A security gateway for plugins: every action is decided by your policy files, recorded, and run confined.",
    no_args_is_help=True,
    # SECURITY: a pretty traceback shows local variables, and those hold keys.
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback()
def root(
    ctx: typer.Context,
    home: Annotated[Path | None, typer.Option("--home", metavar="DIR", help=HOME_HELP)] = None,
    as_json: Annotated[bool, typer.Option("--json", help=JSON_HELP)] = False,
) -> None:
    """Set what every verb may also be given itself."""
    ctx.obj = Defaults(home=home, as_json=as_json)


home.add_verbs(app)
plugin_author.add_verbs(plugin.app)
plugin_vetting.add_verbs(plugin.app)
plugin_timeline.add_verbs(plugin.app)
plugin_tools.add_verbs(plugin.app)
permission_ask.add_verbs(permission.app)
for name, noun in (
    ("key", key),
    ("policy", policy_proof),
    ("plugin", plugin_reload),
    ("permission", permission),
    ("consent", consent),
    ("approvals", approvals),
    ("audit", audit),
    ("traffic", traffic),
    ("lockdown", lockdown),
):
    app.add_typer(noun.app, name=name)


def main() -> None:
    """Run the command line; an error leaves as one sentence on stderr and an exit status, never as a traceback."""
    # WHY: a verb that opens the home itself says how it went; of the gateway within only errors are worth a line.
    set_up_own_log("error")
    try:
        app()
    except HearthgateError as error:
        sys.exit(fail(error, as_json="--json" in sys.argv))
    except Exception as error:
        if os.environ.get(DEBUG_VARIABLE):
            raise
        sys.exit(fail(_told(error), as_json="--json" in sys.argv))


def _told(error: Exception) -> HearthgateError:
    if isinstance(error, PermissionError) and error.filename is not None:
        return HearthgateError(f"`{error.filename}` is not for this user", way_out="run it as one who may use that")
    sentence = f"something unforeseen went wrong ({type(error).__name__})"
    return HearthgateError(sentence, way_out=f"run it again with {DEBUG_VARIABLE}=1 to see where")
