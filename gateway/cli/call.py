"""What every verb shares: `--home`, `--json`, the client, and how an answer is shown."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Concatenate, ParamSpec, get_type_hints

import typer

from gateway.cli.output import print_json

if TYPE_CHECKING:
    from gateway.client import Client

HOME_HELP = "The home to work on; else $HEARTHGATE_HOME, else the current folder."
JSON_HELP = "Print one JSON document on stdout, and all else on stderr."

Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; kept in the log.")]

P = ParamSpec("P")
_Keyword = inspect.Parameter.KEYWORD_ONLY


@dataclass(frozen=True, slots=True, kw_only=True)
class Defaults:
    """What was given before the noun."""

    home: Path | None = None
    as_json: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One run of a verb."""

    home_option: Path | None
    as_json: bool

    def home(self) -> Path:
        """Give the home that is meant.

        Raises:
            NoHomeError: there is none.

        """
        from gateway.client import find_home

        return find_home(self.home_option)

    def client(self) -> "Client":
        """Connect to the home's gateway, or open the home."""
        from gateway.client import Client

        return Client(self.home())

    def ask(self, method: str, path: str, **more: Any) -> Any:  # noqa: ANN401 (any JSON value)
        """Ask one thing and give the body of the answer."""
        with self.client() as client:
            return client.request(method, path, **more).body

    def show(self, body: Any, people: Callable[[], object]) -> None:  # noqa: ANN401 (any JSON value)
        """Show an answer: as JSON to programs, by `people` to people."""
        if self.as_json:
            print_json(body)
        else:
            people()


def verb(app: typer.Typer, name: str) -> Callable[[Callable[Concatenate[Call, P], None]], Callable[..., None]]:
    """Add a verb that also takes `--home` and `--json`; it gets both as its first argument, a `Call`.

    An argument whose type is a dataclass stands for the options that are its members.
    """

    def add(function: Callable[Concatenate[Call, P], None]) -> Callable[..., None]:
        def run(ctx: typer.Context, home: Path | None, as_json: bool, **given: Any) -> None:  # noqa: ANN401
            defaults = ctx.find_root().obj or Defaults()
            call = Call(home_option=home or defaults.home, as_json=as_json or defaults.as_json)
            for argument, group in groups.items():
                given[argument] = group(**{member.name: given.pop(member.name) for member in fields(group)})
            function(call, **given)  # type: ignore[call-arg] # typer gives what the signature below says

        signature = inspect.signature(function, eval_str=True)
        taken = list(signature.parameters.values())[1:]
        groups: dict[str, type[Any]] = {one.name: one.annotation for one in taken if _is_group(one.annotation)}
        own = [option for one in taken for option in (_members(one.annotation) if one.name in groups else [one])]
        shared = [
            inspect.Parameter("home", _Keyword, default=None, annotation=_HOME),
            inspect.Parameter("as_json", _Keyword, default=False, annotation=_JSON),
        ]
        first = inspect.Parameter("ctx", _Keyword, annotation=typer.Context)
        every = [first, *(parameter.replace(kind=_Keyword) for parameter in own), *shared]
        run.__signature__ = signature.replace(parameters=every)  # type: ignore[attr-defined] # a function takes one
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in every}
        run.__doc__ = function.__doc__
        app.command(name)(run)
        return function

    return add


def _is_group(annotation: object) -> bool:
    return isinstance(annotation, type) and is_dataclass(annotation)


def _members(group: type) -> list[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(member.name, _Keyword, default=member.default, annotation=hints[member.name])
        for member in fields(group)
    ]


_HOME = Annotated[Path | None, typer.Option("--home", metavar="DIR", help=HOME_HELP)]
_JSON = Annotated[bool, typer.Option("--json", help=JSON_HELP)]
