"""A policies folder as the verbs that need no gateway read it, with what the home's registry knows."""

from pathlib import Path
from typing import TYPE_CHECKING

from gateway.cli.call import Call
from gateway.errors import HearthgateError, NoHomeError, PolicyBrokenError, UsageError

if TYPE_CHECKING:
    from gateway.policy.engine import PolicySet
    from gateway.policy.model import Model
    from gateway.policy.parse import ParsedPolicy
    from gateway.policy.text import PolicyText
    from gateway.registry.glance import Glance

BY_SHIPPED = "this goes by what rules mean under the shipped one"


def read(folder: Path) -> "PolicyText":
    """Read a policies folder.

    Raises:
        UsageError: it is a home.
        PolicyUnreadableError: it is no folder, or cannot be believed.
    """
    from gateway.policy_files import read_policy_folder

    if (folder / "policies" / "model.conf").is_file() and not (folder / "model.conf").exists():
        raise UsageError(f"`{folder}` is a home, and no policies folder", way_out=f"name {folder / 'policies'}")
    return read_policy_folder(folder)


def known(call: Call, folder: Path | None = None) -> "Glance | None":
    """Read the registry by which the grants of `folder` are judged, None if there is none.

    It is that of the home in which the folder lies, else that of the home that is meant.
    """
    from gateway.registry.glance import glance

    around = None if folder is None else glance(folder.resolve().parent / "data")
    if around is not None:
        return around
    try:
        return glance(call.home() / "data")
    except NoHomeError:
        return None


def model_of(call: Call, folder: Path) -> "Model | None":
    """Give the model that a folder's policy must have: as the home around it says, else as the one that is meant."""
    from gateway.config import SETTINGS_FILE

    if (folder.resolve().parent / SETTINGS_FILE).is_file():
        return wanted_model(folder.resolve().parent)
    try:
        return wanted_model(call.home())
    except NoHomeError:
        from gateway.policy.model import SHIPPED_MODEL

        return SHIPPED_MODEL


def wanted_model(home: Path) -> "Model | None":
    """Give the model that the policies of a home must have, None if their own file says it."""
    from gateway.config import read_settings
    from gateway.policy.model import SHIPPED_MODEL

    try:
        return None if read_settings(home).policy.custom_model else SHIPPED_MODEL
    except HearthgateError:
        return SHIPPED_MODEL


def checked(text: "PolicyText", registry: "Glance | None", model: "Model | None") -> "ParsedPolicy":
    """Read a policy text with every check, that of its grants included where a registry is known."""
    from gateway.policy.parse import parse_policy

    return parse_policy(text, model=model, grant_ids=None if registry is None else registry.grant_ids)


def parsed(text: "PolicyText", folder: Path, registry: "Glance | None", model: "Model | None") -> "ParsedPolicy":
    """Read the policy of a text that comes from `folder`.

    Raises:
        PolicyBrokenError: it has errors.
    """
    found = checked(text, registry, model)
    if not found.ok:
        raise PolicyBrokenError(f"the policy files in {folder} have errors", problems=found.errors)
    return found


def built(text: "PolicyText", folder: Path, registry: "Glance | None", model: "Model | None") -> "PolicySet":
    """Build the policy of a text that comes from `folder`.

    Raises:
        PolicyBrokenError: it has errors.
    """
    from gateway.policy.engine import build_policy_set

    return build_policy_set(parsed(text, folder, registry, model), memberships={}, generation=0)


def in_force(home: Path) -> "PolicySet":
    """Give the policy that was put in force last, else the one in the home's files."""
    from gateway.registry.policy_sets import PolicySets

    # WHY: what is in force was checked when it came into force; a grant that was revoked since is on its way out.
    kept = PolicySets(home / "data" / "policy").in_force()
    return built(kept or read(home / "policies"), home / "policies", None, wanted_model(home))
