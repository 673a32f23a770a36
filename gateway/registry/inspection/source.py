"""What a plugin's source says: the functions of its entry point, and what it asks of `ctx` by name.

The standard library alone is imported, for this also runs in a cell, over code that nobody has looked at.
"""

import ast
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

INSPECTED = "/inspected"
MAX_SOURCE_BYTES = 1 << 20
_MAX_FINDS = 1000
_MAX_LITERAL = 300
FAMILIES = ("vault", "files", "http", "system", "api", "plugins", "user", "core")
Finds: TypeAlias = dict[str, Any]  # JSON: `functions`, `uses`, `imports` and `errors`


def inspect(_ctx: object, entry_point: str) -> Finds:
    """Read the snapshot that this cell was shown."""
    root = Path(INSPECTED)
    files = {}
    for path in root.rglob("*.py"):
        if path.is_file():
            with path.open("rb") as file:
                files[path.relative_to(root).as_posix()] = file.read(MAX_SOURCE_BYTES + 1)
    return read_source(files, entry_point)


def read_source(files: Mapping[str, bytes], entry_point: str) -> Finds:
    """Give what the files say; those that are no Python, or too large, are named in `errors`."""
    found: Finds = {"functions": {}, "uses": [], "imports": [], "errors": []}
    for path, source in sorted(files.items()):
        tree = _parse(path, source, found["errors"])
        if tree is None:
            continue
        if path == entry_point:
            found["functions"] = {
                name: {"line": line, "async": kind, "takes": takes} for name, line, kind, takes in _functions(tree)
            }
        found["imports"] = sorted({*found["imports"], *_imports(tree)})[:_MAX_FINDS]
        room = _MAX_FINDS - len(found["uses"])
        found["uses"] += [{"file": path, **use} for _, use in zip(range(room), _uses(tree), strict=False)]
    return found


def _parse(path: str, source: bytes, errors: list[dict[str, Any]]) -> ast.Module | None:
    try:
        if len(source) > MAX_SOURCE_BYTES:
            raise ValueError(f"more than {MAX_SOURCE_BYTES >> 20} MiB of source")  # noqa: TRY301  # told like the rest
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(source)
    except SyntaxError as error:
        errors.append({"file": path, "line": error.lineno or 1, "message": f"{error.msg}"[:_MAX_LITERAL]})
    except (ValueError, RecursionError, MemoryError) as error:
        said = str(error) or "it is nested too deeply"
        errors.append({"file": path, "line": 1, "message": said[:_MAX_LITERAL]})
    return None


def _functions(tree: ast.Module) -> Iterator[tuple[str, int, bool | None, dict[str, Any] | None]]:
    """Give what a module defines by name: whether it is an `async def` and what it takes, None where it is not seen."""
    level: list[ast.stmt] = list(tree.body)
    while level:
        statement = level.pop()
        match statement:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name, statement.lineno, isinstance(statement, ast.AsyncFunctionDef), _takes(statement)
            case ast.ClassDef(name=name):
                yield name, statement.lineno, None, None
            case ast.Import(names=names) | ast.ImportFrom(names=names):
                for each in names:
                    yield (each.asname or each.name).partition(".")[0], statement.lineno, None, None
            case ast.Assign() | ast.AnnAssign():
                targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
                for target in targets:
                    if isinstance(target, ast.Name):
                        yield target.id, statement.lineno, None, None
            case ast.If() | ast.Try() | ast.With():
                level += [each for each in ast.iter_child_nodes(statement) if isinstance(each, ast.stmt)]
                level += [each for handler in getattr(statement, "handlers", ()) for each in handler.body]
            case _:
                pass


def _takes(function: ast.FunctionDef | ast.AsyncFunctionDef) -> dict[str, Any] | None:
    """Give what a function takes by name beside its first argument; None where a decorator may change it."""
    if function.decorator_list:
        return None
    args = function.args
    named = [*args.posonlyargs, *args.args]
    by_name = [*args.args[0 if args.posonlyargs else 1 :], *args.kwonlyargs]
    without = named[: len(named) - len(args.defaults)][1:]
    without += [each for each, default in zip(args.kwonlyargs, args.kw_defaults, strict=True) if default is None]
    return {
        "names": [each.arg for each in by_name],
        "needed": [each.arg for each in without],
        "any": args.kwarg is not None,
    }


def _imports(tree: ast.Module) -> Iterator[str]:
    """Give the packages that are imported anywhere, by the first word of their name."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (each.name.partition(".")[0] for each in names)
            case ast.ImportFrom(module=str(name), level=0):
                yield name.partition(".")[0]
            case _:
                pass


def _uses(tree: ast.Module) -> Iterator[dict[str, Any]]:
    """Give each call of the form `ctx.family.verb(...)`, where `ctx` is so called or a function's first parameter."""
    doors = {"ctx"} | {
        node.args.args[0].arg
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.args.args
    }
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(attr=verb, value=ast.Attribute(attr=family, value=ast.Name(id=door)))):
                if door in doors and family in FAMILIES:
                    given = {each.arg: _literal(each.value) for each in node.keywords if each.arg is not None}
                    yield {
                        "line": node.lineno,
                        "family": family,
                        "verb": verb,
                        "args": [_literal(each) for each in node.args[:3]],
                        "named": given,
                    }
            case _:
                pass


def _literal(node: ast.expr) -> str | list[str] | None:
    match node:
        case ast.Constant(value=str(text)) if len(text) <= _MAX_LITERAL:
            return text
        case ast.List(elts=[ast.Constant(value=str(first)), *_]) | ast.Tuple(elts=[ast.Constant(value=str(first)), *_]):
            return [first[:_MAX_LITERAL]]
        case _:
            return None
