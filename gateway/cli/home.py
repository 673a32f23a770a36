"""Verbs about a home as a whole: init, serve, demo, doctor, schema."""

import dataclasses
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli.call import Call, verb
from gateway.cli.output import columns, note, print_json, print_table, print_text
from gateway.errors import NoHomeError

_GUARANTEES = columns(guarantee="!name", held="held", needed="mandatory", accepted="accepted", detail="detail")


class Schema(StrEnum):
    """The shapes that are published as JSON Schema."""

    MANIFEST = "manifest"
    POLICY_TEST = "policy-test"
    DECISION = "decision"


def add_verbs(app: typer.Typer) -> None:
    """Add the verbs that have no noun."""
    verb(app, "init")(init)
    verb(app, "serve")(serve)
    verb(app, "demo")(demo)
    verb(app, "doctor")(doctor)
    verb(app, "schema")(schema)


def init(
    call: Call,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new or empty folder.")],
    plugins: Annotated[bool, typer.Option("--plugins", help="Bring the example plugins along.")] = False,
) -> None:
    """Make a home with the starter policy."""
    from gateway.app import init_home

    made = init_home(folder, plugins=plugins)

    def tell() -> None:
        print_text(*(f"new  {path}" for path in made))
        note(f"a home is ready: export HEARTHGATE_HOME={folder.resolve()}, then `hearthgate serve`")

    call.show({"home": str(folder.resolve()), "files": [str(path) for path in made]}, tell)


def serve(
    call: Call,
    listen: Annotated[
        str | None,
        typer.Option("--listen", metavar="HOST:PORT", help="Instead of hearthgate.toml's; port 0: any free."),
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Tell every request and decision on stderr.")] = False,
) -> None:
    """Serve the home until interrupted."""
    from gateway.app import serve as serve_home

    serve_home(call.home(), listen, debug=debug)


def demo(call: Call) -> None:
    """Tell the whole story in a temporary home."""
    from gateway.demo.run import run_demo

    raise typer.Exit(run_demo(as_json=call.as_json))


def doctor(call: Call) -> None:
    """Tell what host and home lack.

    Exit 1 if something that is needed is missing.
    """
    report = _report(call)

    def tell() -> None:
        print_table(_GUARANTEES, report["host"], empty="the host tells nothing")
        for line in report["missing"]:
            note(f"missing: {line}")
        for line in report["warnings"]:
            note(f"warning: {line}")
        note("all that is needed is there" if report["ok"] else "not all that is needed is there")

    call.show(report, tell)
    if not report["ok"]:
        raise typer.Exit(1)


def schema(call: Call, shape: Annotated[Schema, typer.Argument(help="Which shape.")]) -> None:
    """Print a shape as JSON Schema."""
    if shape is Schema.MANIFEST:
        from gateway.registry.manifest_schema import manifest_schema

        body = manifest_schema()
    elif shape is Schema.POLICY_TEST:
        from gateway.policy.case_schema import case_schema

        body = case_schema()
    else:
        from gateway.cli.decision_schema import decision_schema

        body = decision_schema()
    call.show(body, lambda: print_json(body))


def _report(call: Call) -> dict[str, Any]:
    try:
        home = call.home()
    except NoHomeError:
        return _host_report()
    from gateway.client import Client

    with Client(home) as client:
        report: dict[str, Any] = client.request("GET", "/v1/doctor").body
        return report


def _host_report() -> dict[str, Any]:
    """Tell of the host alone, where no home is named."""
    from sandbox.probe import probe

    guarantees = probe()
    missing = [one for one in guarantees if one.mandatory and not one.held]
    return {
        "ok": not missing,
        "missing": [f"sandbox: {one.name}: {one.detail}: {one.fix}" for one in missing],
        "warnings": ["no home is named, so this is about the host alone"],
        "host": [dataclasses.asdict(one) for one in guarantees],
    }
