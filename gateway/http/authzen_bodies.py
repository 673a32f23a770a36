"""What clients of AuthZEN 1.0 send: unknown members are passed over, known ones are what the standard says."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

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
