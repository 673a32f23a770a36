"""What is allowed in a manifest, and may not mean what its author thinks."""

from collections.abc import Iterator, Sequence

from gateway.domain.manifest import RequestedPermission
from gateway.domain.permission import Kind
from gateway.domain.scope import covers_pattern
from gateway.registry.manifest_file import ManifestFile
from gateway.registry.manifest_limits import disagreements

_CLAIMS = ("approved_by_user", "auto_approve")


def warnings_of(
    file: ManifestFile, permissions: Sequence[RequestedPermission], file_access: Sequence[str]
) -> Iterator[tuple[str, str]]:
    """Give the place and the sentence of each; `file_access` as it is mounted."""
    yield from disagreements(file)
    requested = len(file.requested_permissions)
    for number, each in enumerate(permissions):
        if each.scope is None:
            optional = number >= requested
            place = f"{'optional' if optional else 'requested'}_permissions[{number - requested * optional}]"
            yield place, f"`{each.permission}` names no scope, so it grants nothing"
    files = [each.scope for each in permissions if each.permission.kind is Kind.FILE and each.scope is not None]
    for number, path in enumerate(file_access):
        if not any(covers_pattern(scope, path) for scope in files):
            yield f"sandbox_config.file_access[{number}]", f"`{path}` is not mounted: no file permission covers it"
    for claim in _CLAIMS:
        if getattr(file, claim):
            yield claim, "never believed: people approve"
