"""The limits of a manifest: each may be spelt in several places, and the least of them holds."""

from collections.abc import Iterator, Mapping

from gateway.domain.manifest import Limits
from gateway.registry.manifest_file import ManifestFile


def limits_of(file: ManifestFile) -> Limits:
    """Give what one call may use as the author asks; the gateway's own caps come later."""
    time, memory, cpu = (_least(spellings) for spellings in _spellings(file))
    return Limits(
        timeout_s=time,
        memory_mb=None if memory is None else int(memory),
        disk_mb=file.sandbox_config.max_disk_mb,
        cpu_percent=None if cpu is None else max(1, int(cpu)),
    )


def disagreements(file: ManifestFile) -> Iterator[tuple[str, str]]:
    """Give the place and the sentence of each limit that is spelt with different values."""
    for spellings in _spellings(file):
        given = {place: value for place, value in spellings.items() if value is not None}
        if len(set(given.values())) > 1:
            least = min(given, key=lambda place: given[place])
            others = ", ".join(f"`{place}` says {value:g}" for place, value in given.items() if place != least)
            yield least, f"{given[least]:g} holds, for it is the least; {others}"


def _spellings(file: ManifestFile) -> tuple[Mapping[str, float | None], ...]:
    config, limits = file.sandbox_config, file.resource_limits
    return (
        {
            "sandbox_config.timeout": config.timeout,
            "sandbox_config.max_execution_time": config.max_execution_time,
            "resource_limits.max_execution_time": limits.max_execution_time,
        },
        {
            "sandbox_config.memory_limit": config.memory_limit,
            "sandbox_config.max_memory_mb": config.max_memory_mb,
            "resource_limits.max_memory_usage": limits.max_memory_usage,
        },
        {
            "sandbox_config.max_cpu_percent": config.max_cpu_percent,
            "resource_limits.max_cpu_percent": limits.max_cpu_percent,
        },
    )


def _least(spellings: Mapping[str, float | None]) -> float | None:
    return min((value for value in spellings.values() if value is not None), default=None)
