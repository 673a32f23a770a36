"""What a client of the Model Context Protocol is told: tools, results, problems."""

import json
from collections.abc import Mapping
from typing import Any

import mcp_types as types
from pydantic import TypeAdapter, ValidationError

from gateway.domain.outcome import Outcome
from gateway.domain.request import Json
from gateway.domain.visible import clean
from gateway.errors import HearthgateError
from gateway.flows.call import Execution
from gateway.flows.tools import Reach, Tool

EXECUTION_ID = "hearthgate/execution_id"
DECISION_ID = "hearthgate/decision_id"
_MAX_DESCRIPTION_CHARS = 4000
_BLOCKS: TypeAdapter[list[types.TextContent | types.ImageContent | types.AudioContent | types.EmbeddedResource]] = (
    TypeAdapter(list[types.TextContent | types.ImageContent | types.AudioContent | types.EmbeddedResource])
)
_OF_BLOCKS = frozenset({"content", "structuredContent", "isError"})


def as_tool(tool: Tool, reach: Reach) -> types.Tool:
    """Give the wire shape of a tool; its hints are the gateway's own, computed from rights."""
    # SECURITY: an author's text, which a model reads: what a person who approved it could not see must not be in it.
    description = clean(tool.capability.description)[:_MAX_DESCRIPTION_CHARS]
    return types.Tool(
        name=tool.name,
        title=clean(f"{tool.plugin.manifest.name}: {tool.capability.name}")[:200],
        description=description or None,
        input_schema=_visible(tool.capability.input_schema),
        annotations=types.ToolAnnotations(
            read_only_hint=reach.reads_only, destructive_hint=not reach.reads_only, open_world_hint=reach.abroad
        ),
    )


def _visible(schema: Mapping[str, Json]) -> dict[str, Any]:
    """Give a schema in which nothing is hidden from who looks at it, in its words or its names."""
    return {clean(name): _visible_value(value) for name, value in schema.items()}


def _visible_value(value: Json) -> Any:  # noqa: ANN401 (any JSON value)
    match value:
        case str():
            return clean(value)
        case list():
            return [_visible_value(each) for each in value]
        case dict():
            return _visible(value)
    return value


def as_result(execution: Execution) -> types.CallToolResult:
    """Give the wire shape of how a call ended; one that did not return is an error that the model reads."""
    meta = {EXECUTION_ID: execution.execution_id, DECISION_ID: execution.decision.decision_id}
    result = execution.result
    if result.outcome is not Outcome.RETURNED:
        told: dict[str, Any] = {
            "outcome": result.outcome.value,
            "error": result.error,
            "execution_id": execution.execution_id,
            "decision_id": execution.decision.decision_id,
            "denied": [each["decision_id"] for each in result.asks if each.get("effect") == "deny"],
        }
        why = (result.error or "nothing more is known").splitlines()[0]
        text = f"the call {_ENDED[result.outcome]}: {why}"
        return types.CallToolResult(content=[_text(text)], structured_content=told, is_error=True, _meta=meta)
    output = execution.output
    blocks = _blocks(output)
    if blocks is not None and isinstance(output, dict):
        structured = output.get("structuredContent")
        return types.CallToolResult(
            content=[*blocks],
            structured_content=structured if isinstance(structured, dict) else None,
            is_error=output.get("isError") is True,
            _meta=meta,
        )
    text = output if isinstance(output, str) else json.dumps(output, ensure_ascii=False)
    structured = output if isinstance(output, dict) else None
    return types.CallToolResult(content=[_text(text)], structured_content=structured, _meta=meta)


def as_denial(error: HearthgateError, *, hint: str | None = None) -> types.CallToolResult:
    """Give the wire shape of a call that was not made: a result, so that the model reads why, and what can be done."""
    body = {**as_problem(error), **({} if hint is None else {"way_out": hint})}
    told = [error.message, body.get("way_out"), error.decision_id and f"decision {error.decision_id}"]
    return types.CallToolResult(
        content=[_text("; ".join(each for each in told if each))],
        structured_content=body,
        is_error=True,
        _meta={} if error.decision_id is None else {DECISION_ID: error.decision_id},
    )


def as_problem(error: HearthgateError) -> dict[str, Any]:
    """Give the members that the same error has over HTTP."""
    head = {"type": error.urn, "title": error.title, "status": error.status, "detail": error.message}
    more = {"way_out": error.way_out, "decision_id": error.decision_id, "retry_after_s": error.retry_after_s}
    return {**error.extra, **{name: value for name, value in more.items() if value is not None}, **head}


_ENDED: Mapping[Outcome, str] = {
    Outcome.FAILED: "failed",
    Outcome.TIMED_OUT: "timed out",
    Outcome.KILLED: "was killed",
    Outcome.REFUSED: "was refused",
    Outcome.UNKNOWN: "ended nobody knows how",
}


def _blocks(output: Json) -> list[Any] | None:
    """Give the content blocks that a plugin returned as such; None where what it returned is a value like any."""
    if not isinstance(output, dict) or "content" not in output or not set(output) <= _OF_BLOCKS:
        return None
    if not isinstance(output["content"], list):
        return None
    try:
        return _BLOCKS.validate_python(output["content"], by_name=False)
    except ValidationError:
        return None


def _text(text: str) -> types.TextContent:
    return types.TextContent(type="text", text=text)
