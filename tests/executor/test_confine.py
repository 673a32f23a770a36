"""What a manifest asks for is never more than the operator allows, and each plugin has a uid of its own."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.manifest import Limits
from gateway.executor.confine import Caps, confine, host_uid
from gateway.registry.manifest import parse_manifest

CAPS = Caps(timeout_s=60, memory_mb=128, scratch_mb=16, processes=8, output_bytes=1024)
NUMBERS = st.none() | st.integers(1, 86_400)


@given(NUMBERS, st.none() | st.integers(16, 1 << 20), NUMBERS)
def test_the_least_of_all_limits_holds(timeout_s: int | None, memory_mb: int | None, disk_mb: int | None) -> None:
    config = {"timeout": timeout_s, "memory_limit": memory_mb, "max_disk_mb": disk_mb}
    manifest = parse_manifest(
        {"plugin_id": "tested", "name": "x", "version": "1.0.0", "sandbox_config": dict(config)}  # type: ignore[dict-item] # JSON
    )
    limits = confine(manifest, Path("/x"), CAPS).limits
    assert 0 < limits.timeout_s <= min(60, timeout_s or 30)
    assert 0 < limits.memory_bytes <= min(128, memory_mb or 256) << 20
    assert 0 < limits.scratch_bytes <= min(16, disk_mb or 32) << 20
    assert limits.processes == 8
    assert manifest.limits == Limits(timeout_s=timeout_s, memory_mb=memory_mb, disk_mb=disk_mb)


def test_each_plugin_has_a_uid_of_its_own_far_from_any_persons() -> None:
    uids = {host_uid(f"plugin-{number}") for number in range(2000)}
    assert len(uids) == 2000
    assert all(0x6000_0000 <= uid < 0x7000_0000 for uid in uids)
    assert host_uid("notes") == host_uid("notes")


def test_nothing_of_the_host_is_mounted_by_a_manifest_alone() -> None:
    manifest = parse_manifest(
        {"plugin_id": "tested", "name": "x", "version": "1.0.0", "sandbox_config": {"file_access": ["/"]}}
    )
    assert confine(manifest, Path("/x"), CAPS).mounts == ()
