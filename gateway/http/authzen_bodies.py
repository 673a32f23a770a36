"""What clients of AuthZEN 1.0 send: unknown members are passed over, known ones are what the standard says."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from gateway.domain.request import Json
from gateway.flows.evaluate import Entity, Evaluation
from gateway.http.bodies import parse_time

MAX_EVALUATIONS = 100
MAX_PAGE = 1000

Type = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_.-]*$", max_length=64)]
Id = Annotated[str, Field(min_length=1, max_length=512)]
Properties = dict[str, object]


class _Part(BaseModel):
    """A JSON object of which unknown members are passed over, as the standard wants it."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)


class NamedEntity(_Part):
    """A subject or a resource."""

    type: Type
    id: Id
    properties: Properties = Field(default_factory=dict)


class TypedEntity(_Part):
    """A subject or a resource that is looked for; an id is passed over."""

    type: Type
    properties: Properties = Field(default_factory=dict)


class NamedAction(_Part):
    """An action."""

    name: Annotated[str, Field(min_length=1, max_length=128)]
    properties: Properties = Field(default_factory=dict)


class EvaluationBody(_Part):
    """The question whether the subject may do the action on the resource."""

    subject: NamedEntity
    action: NamedAction
    resource: NamedEntity
    context: Properties = Field(default_factory=dict)


class DenialBody(_Part):
    """The denial that is asked about; of what is echoed of it the token alone counts."""

    binding_token: Annotated[str, Field(min_length=1, max_length=8192)]


class WantedBody(_Part):
    """For how long access is wanted."""

    requested_until: Annotated[datetime | None, BeforeValidator(parse_time)] = None


class AccessRequestBody(EvaluationBody):
    """The denied question again, with its denial."""

    denial: DenialBody
    requested_access: WantedBody = WantedBody()
    items: list[object] | None = None


class CancelBody(_Part):
    """Why a request is taken back."""

    reason: Annotated[str, Field(max_length=500)] = ""
    comment: Annotated[str, Field(max_length=500)] = ""


class OptionsBody(_Part):
    """When several evaluations are enough."""

    evaluations_semantic: Literal["execute_all", "deny_on_first_deny", "permit_on_first_permit"] = "execute_all"


class EvaluationsBody(_Part):
    """Several evaluations; what one of them lacks is taken from beside them, whole."""

    subject: dict[str, object] | None = None
    action: dict[str, object] | None = None
    resource: dict[str, object] | None = None
    context: dict[str, object] | None = None
    evaluations: Annotated[list[object], Field(max_length=MAX_EVALUATIONS)] = Field(default_factory=list)
    options: OptionsBody = OptionsBody()


class PageBody(_Part):
    """How much of what a search found is wanted, and from where."""

    limit: Annotated[int, Field(ge=1, le=MAX_PAGE)] | None = None
    token: Annotated[str, Field(max_length=512)] | None = None


class SubjectSearchBody(_Part):
    """The question who may do the action on the resource."""

    subject: TypedEntity
    action: NamedAction
    resource: NamedEntity
    context: Properties = Field(default_factory=dict)
    page: PageBody | None = None


class ResourceSearchBody(_Part):
    """The question on which resources the subject may do the action."""

    subject: NamedEntity
    action: NamedAction
    resource: TypedEntity
    context: Properties = Field(default_factory=dict)
    page: PageBody | None = None


class ActionSearchBody(_Part):
    """The question what the subject may do on the resource."""

    subject: NamedEntity
    resource: NamedEntity
    context: Properties = Field(default_factory=dict)
    page: PageBody | None = None


SearchBody = SubjectSearchBody | ResourceSearchBody | ActionSearchBody


def as_evaluation(data: EvaluationBody) -> Evaluation:
    """Take a body as a question."""
    return Evaluation(
        subject=as_entity(data.subject),
        action=data.action.name,
        resource=as_entity(data.resource),
        action_properties=as_members(data.action.properties),
        context=as_members(data.context),
    )


def as_entity(data: NamedEntity) -> Entity:
    """Take a part of a body as somebody or something."""
    return Entity(data.type, data.id, as_members(data.properties))


def as_members(members: Mapping[str, object]) -> Mapping[str, Json]:
    """Say that members that came as JSON are JSON."""
    return members  # type: ignore[return-value] # parsed from JSON by the door
