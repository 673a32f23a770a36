"""The JSON Schema of a manifest, for editors and other programs."""

from typing import Any

from gateway.registry.manifest_file import ManifestFile


def manifest_schema() -> dict[str, Any]:
    """Give the JSON Schema (2020-12) of a manifest; whatever the gateway takes fits it."""
    schema = ManifestFile.model_json_schema(by_alias=True)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:hearthgate:schema:manifest",
        **schema,
    }
