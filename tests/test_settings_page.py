"""docs/settings.md tells every setting, with the default that it has."""

import re
import tomllib
from pathlib import Path

from gateway.config import Settings, UpstreamSettings

PAGE = (Path(__file__).parents[1] / "docs" / "settings.md").read_text()
ALL, SERVICE = (tomllib.loads(block) for block in re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL))
WITHOUT_DEFAULT = {"keep_days", "keep_segments"}
ELSEWHERE = {"sink"}


def test_the_page_shows_every_setting_with_its_default() -> None:
    told = Settings.model_validate(ALL)
    assert told == Settings()
    for name, section in ALL.items():
        known = set(type(getattr(told, name)).model_fields)
        assert known - set(section) <= (WITHOUT_DEFAULT | ELSEWHERE if name == "log" else set()), name
    assert set(Settings.model_fields) == {*ALL, "upstream"}
    assert all(f"`{name}`" in PAGE for name in WITHOUT_DEFAULT)


def test_the_page_shows_a_service_with_all_that_it_may_say() -> None:
    (service,) = Settings.model_validate(SERVICE).upstream.values()
    assert set(SERVICE["upstream"]["weather"]) == set(UpstreamSettings.model_fields)
    assert service.prefix == "Bearer "
