"""What callers may send: strict shapes, nothing unknown, parsed once at the door."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from gateway.domain.manifest import RequestedPermission
from gateway.domain.names import UserId, parse_user_id
from gateway.domain.permission import LEVELS, PERMISSIONS, Kind, Permission, parse_permission
from gateway.domain.request import Json
from gateway.errors import MalformedError
from gateway.flows.import_grants import Exported
from gateway.registry.manifest_conditions import Conditions, condition_text, manifest_scope

MAX_TIMEOUT_S = 86_400


class Body(BaseModel):
    """A JSON object of known members."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def parse_time(text: object) -> object:
    """Take RFC 3339 text as a moment; one without a zone is refused, for nobody knows when it is.

    Raises:
        ValueError: it is not a time with a zone.
    """
    if not isinstance(text, str):
        return text
    try:
        at = datetime.fromisoformat(text)
        spelt = at.astimezone(UTC)
    except (ValueError, OverflowError):
        # WHY: a time may lie in our years in its own zone and beyond them in UTC, in which it would be written.
        raise ValueError(f"`{text[:80]}` is not a time like 2026-12-31T00:00:00Z") from None
    if at.tzinfo is None:
        raise ValueError("write the zone, as 2026-12-31T00:00:00Z")
    return spelt


def parse_moment(name: str, text: str | None) -> datetime | None:
    """Take a query parameter as a moment.

    Raises:
        MalformedError: it is not a time with a zone.
    """
    try:
        return None if text is None else datetime.fromisoformat(str(parse_time(text)))
    except ValueError as error:
        raise MalformedError(f"{name}: {error}") from None


def _listed(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


Text = Annotated[str, Field(max_length=2000)]
Moment = Annotated[datetime, BeforeValidator(parse_time)]
Reason = Annotated[str, Field(max_length=2000)]
SessionId = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[\x21-\x7e]+$")]


class DecisionBody(Body):
    """The question whether `subject` may do `permission` on `scope`."""

    subject: Annotated[str, Field(min_length=3, max_length=256)]
    permission: Annotated[str, Field(min_length=3, max_length=128)]
    level: Text | None = None
    scope: Annotated[str, Field(max_length=1024)]
    user: Text | None = None
    context: dict[str, object] = Field(default_factory=dict)
    args: dict[str, object] = Field(default_factory=dict)
    dry_run: bool = False


class ExecuteBody(Body):
    """A call of a plugin."""

    payload: dict[str, object]
    session_id: SessionId | None = None
    timeout_s: Annotated[float, Field(gt=0, le=MAX_TIMEOUT_S)] | None = None
    idempotency_key: Annotated[str, Field(min_length=1, max_length=128)] | None = None


class ReasonBody(Body):
    """Why somebody does something."""

    reason: Reason = ""


class EraseBody(Body):
    """Who is to be erased, and why."""

    user: Text
    reason: Reason
    keep_policy: bool = False


class PermissionPart(Body):
    """A permission that is asked for."""

    permission: Text
    level: Text | None = None
    scope: Text
    conditions: Conditions = Conditions()
    purpose: Text = ""


class PermissionRequestBody(Body):
    """Permissions for a plugin."""

    plugin_id: Text
    permissions: Annotated[tuple[PermissionPart, ...], BeforeValidator(_listed), Field(min_length=1, max_length=100)]
    reason: Reason = ""


class ChosenPart(Body):
    """One of the permissions of a request."""

    permission: Text
    scope: Text | None = None


class ApproveRequestBody(Body):
    """A yes to a request: whole, to the chosen part, or for a time."""

    reason: Reason = ""
    permissions: Annotated[tuple[ChosenPart | Text, ...], BeforeValidator(_listed)] | None = None
    until: Moment | None = None


class ApproveCallBody(Body):
    """A yes to one exact call, which may be used until a moment."""

    reason: Reason = ""
    until: Moment | None = None


class RevokePermissionsBody(Body):
    """Which grants are taken back; without members, all."""

    permission: Text | None = None
    scope: Text | None = None
    reason: Reason = ""


class ExportedGrant(Body):
    """One grant of an export; of what it tells only who may do what, under which condition and why, is taken."""

    plugin_id: Text
    permission: Text
    scope: Annotated[str, Field(max_length=1024)]
    condition: Text
    why: Text = ""
    granted: bool = True
    id: Text = ""
    level: Text | None = None
    file: Text = ""
    line: int = 0

    def as_exported(self) -> Exported:
        """Give what of it counts."""
        return Exported(
            plugin_id=self.plugin_id,
            permission=self.permission,
            scope=self.scope,
            condition=self.condition,
            why=self.why,
            granted=self.granted,
        )


class ImportBody(Body):
    """An export of grants, to be granted here."""

    version: Literal[1]
    grants: Annotated[tuple[ExportedGrant, ...], BeforeValidator(_listed), Field(max_length=100_000)]
    reason: Reason = ""
    exported_at: Text | None = None
    policy_version: Text | None = None
    requests: Annotated[tuple[object, ...], BeforeValidator(_listed)] = ()


class ConsentBody(Body):
    """What a user allows a plugin."""

    user_id: Text
    plugin_id: Text
    permission: Text
    scope: Annotated[str, Field(max_length=1024)]
    purpose: Text | None = None
    until: Moment | None = None
    once: bool = False
    session_id: SessionId | None = None


class LockdownBody(Body):
    """What is forbidden, and why."""

    scope: Annotated[str, Field(max_length=256)]
    reason: Reason = ""


class LiftBody(Body):
    """Why a lockdown is lifted, or the log's key is rotated; a reason is needed."""

    reason: Annotated[str, Field(max_length=2000, pattern=r"\S")]


class KeyBody(Body):
    """For whom a key is, what it is for, and until when."""

    user: Text
    scopes: Annotated[
        tuple[Literal["evaluate", "execute", "approve", "consent", "admin", "audit"], ...], BeforeValidator(_listed)
    ]
    expires: Moment | None = None
    rate: Annotated[str, Field(pattern=r"^[1-9][0-9]{0,8}/[1-9][0-9]{0,4}s$")] | None = None


class ExplainBody(Body):
    """A question whose answer is told in sentences."""

    subject: Annotated[str, Field(min_length=3, max_length=256)]
    permission: Annotated[str, Field(min_length=3, max_length=128)]
    scope: Annotated[str, Field(max_length=1024)]
    user: Text | None = None
    at: Moment | None = None


class PolicyFilesBody(Body):
    """The files of a policies folder, by their path inside it."""

    files: dict[str, str]


class ReloadBody(Body):
    """Why the policy files are to be judged now; `announce` is the version that the caller is about to write."""

    reason: Reason = ""
    announce: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")] | None = None


def asked_permission(text: str, level: str | None) -> tuple[str, str]:
    """Take a permission as kind and level; other resource types have their own action names.

    Raises:
        MalformedError: it is none, or the level is not the one of its name.
    """
    kind, _, word = text.rpartition("_")
    known = text in PERMISSIONS or (kind == Kind.GATEWAY and word in LEVELS)
    if not known:
        parse_permission(text)
    if level is not None and level != word:
        raise MalformedError(f"level `{level[:80]}` is not the level of `{text}`")
    return kind, word


def user_or_none(text: str | None) -> UserId | None:
    """Take a user id that may be missing."""
    return None if text is None else parse_user_id(text)


def requested(part: PermissionPart) -> RequestedPermission:
    """Take one permission that is asked for, in the words of a rule.

    Raises:
        MalformedError: it, its scope or a condition cannot be understood.
    """
    permission: Permission = parse_permission(part.permission)
    asked_permission(part.permission, part.level)
    return RequestedPermission(
        permission=permission,
        scope=manifest_scope(permission.kind, part.scope),
        condition=condition_text(part.conditions),
        purpose=part.purpose,
    )


def as_json(members: Mapping[str, object]) -> Mapping[str, Json]:
    """Say that members that came as JSON are JSON."""
    return members  # type: ignore[return-value] # parsed from JSON by the door
