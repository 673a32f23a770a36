"""The policies folder on disk: read as one snapshot, written without ever losing what was there."""

from pathlib import Path

from gateway.policy_files.kept import KeptFiles
from gateway.policy_files.memberships import MembershipsFile
from gateway.policy_files.read import read_policy_folder
from gateway.policy_files.write import finish_edit, write_grants, write_policy_file, write_policy_files, write_text

__all__ = [
    "KeptFiles",
    "MembershipsFile",
    "finish_edit",
    "read_policy_folder",
    "starter_folder",
    "write_grants",
    "write_policy_file",
    "write_policy_files",
    "write_text",
]


def starter_folder() -> Path:
    """Give the folder of the starter policy: beside the packages in a checkout, inside them in a wheel."""
    package = Path(__file__).parents[1]
    packed = package / "starter" / "policies"
    return packed if packed.is_dir() else package.parent / "policies"
