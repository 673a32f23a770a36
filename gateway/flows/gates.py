"""Gates before code may run: what its manifest wants to be looked at was looked at, and this very code it was."""

from dataclasses import replace

from gateway.domain.caller import Caller
from gateway.domain.manifest import Manifest
from gateway.domain.names import UserId
from gateway.errors import ConflictError, MalformedError, Place, Problem
from gateway.flows.parts import Parts
from gateway.flows.review import standing_review
from gateway.flows.scan import scan_code
from gateway.registry.manifest import MANIFEST_FILE
from gateway.registry.plugins import Plugin

GATES = frozenset({"code_review", "security_scan"})  # each is of one code, named by its digest


async def prepare_gates(parts: Parts, caller: Caller, plugin: Plugin) -> None:
    """Scan code that wants to be scanned and was not; takes seconds, so call it before holding others up.

    Raises:
        ConflictError: bandit is not installed.
    """
    known = parts.registry.vetting.scan(plugin.id, plugin.digest)
    if plugin.manifest.security_scan and plugin.digest is not None and known is None:
        await scan_code(parts, caller, plugin)


def check_sandbox_wish(parts: Parts, manifest: Manifest) -> None:
    """Refuse a manifest that declines its sandbox, unless the operator accepts that.

    Raises:
        MalformedError: hearthgate.toml does not name the plugin.
    """
    if not manifest.sandbox and manifest.plugin_id not in parts.unconfined:
        named = f'`[sandbox] unconfined = ["{manifest.plugin_id}"]` in hearthgate.toml'
        said = "sandbox: false is the operator's to accept, not the author's"
        raise MalformedError(
            "the manifest is not valid",
            way_out=f"write true, or the operator writes {named}",
            problems=[Problem(place=Place(file=MANIFEST_FILE), message=said)],
        )


def check_gates(parts: Parts, plugin: Plugin, digest: str | None, *, besides: str | None = None) -> None:
    """Refuse code that was not reviewed, or whose scan found too much, where the manifest wants that.

    A review by `besides`, who brings this code, does not count.

    Raises:
        ConflictError: with what is missing, and the way out.
    """
    manifest, verb = plugin.manifest, f"hearthgate plugin %s {plugin.id}"
    if manifest.code_review_required and standing_review(parts, plugin, digest, besides=besides) is None:
        way_out = f"`{verb % 'review'} --digest {digest} --reason ...` by another than who registered it"
        raise ConflictError(
            f"`{plugin.id}` wants a code review, and its code ({digest or 'there is none'}) had none",
            way_out=way_out if digest else f"put its code in plugins/{plugin.id}/ and register it again",
            extra={"gate": "code_review", "digest": digest},
        )
    if not manifest.security_scan or digest is None:
        return
    scan = parts.registry.vetting.scan(plugin.id, digest)
    if scan is None:
        raise ConflictError(
            f"`{plugin.id}` wants a security scan, and this code has none",
            way_out=f"`{verb % 'scan'}`",
            extra={"gate": "security_scan", "digest": digest},
        )
    if not scan.stands:
        raise ConflictError(
            f"the security scan of `{plugin.id}` found {scan.counts['high']} of high severity",
            way_out=f"mend the code and register it again, or `{verb % 'scan'} --accept {digest} --reason ...`",
            extra={"gate": "security_scan", "digest": digest, "counts": scan.counts},
        )


async def check_new_code(parts: Parts, plugin: Plugin, digest: str, *, besides: str | None = None) -> None:
    """Hold code that is about to take the place of another, or of none, to the gates.

    Raises:
        ConflictError: with what is missing, and the way out.
    """
    coming = replace(plugin, digest=digest)
    await prepare_gates(parts, Caller(user_id=UserId(parts.owner), owner=True), coming)
    check_gates(parts, coming, digest, besides=besides)
