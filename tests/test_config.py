"""Settings: every member known, every value believed only if it can be."""

from pathlib import Path

import pytest

from gateway.app.home import SETTINGS
from gateway.config import Settings, parse_listen, read_settings
from gateway.errors import ConfigError


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path


def write(home: Path, text: str) -> Path:
    path = home / "hearthgate.toml"
    path.write_text(text)
    return path


def test_a_missing_file_and_the_shipped_one_mean_every_default(home: Path) -> None:
    assert read_settings(home) == Settings()
    write(home, SETTINGS)
    assert read_settings(home) == Settings()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[htpp]\n", "`htpp`"),
        ('[http]\nlistn = "127.0.0.1:1"\n', "`http.listn`"),
        ("[http]\nlisten = 8642\n", "`http.listen`"),
        ('[http]\nlisten = "8642"\n', "name an address"),
        ('[http]\nlisten = "0.0.0.0:8642"\n', "only a loopback address"),
        ('[http]\nlisten = "192.168.1.5:8642"\n', "only a loopback address"),
        ('[http]\nlisten = "[::]:8642"\n', "only a loopback address"),
        ('[http]\nlisten = "0.0.0.0:1"\ntls_cert = "c.pem"\n', "one needs the other"),
        ('[http]\ntls_key = "k.pem"\n', "one needs the other"),
        ('[http]\nlisten = "0.0.0.0:1"\nbehind_proxy = "yes"\n', "`http.behind_proxy`"),
        ('[http]\nlisten = "example.com:8642"\n', "name an address"),
        ('[http]\nlisten = "127.0.0.1:99999"\n', "HOST:PORT"),
        ('[http]\nlisten = "127.0.0.1:-1"\n', "HOST:PORT"),
        ('[http]\nsocket = "world"\n', "`http.socket`"),
        ("[sandbox]\nmax_timeout_s = 0\n", "`sandbox.max_timeout_s`"),
        ('[sandbox]\nmax_timeout_s = "300"\n', "`sandbox.max_timeout_s`"),
        ("[sandbox]\nmax_cells = 0\n", "`sandbox.max_cells`"),
        ("[sandbox]\nmax_memory_mb = true\n", "`sandbox.max_memory_mb`"),
        ("[sandbox]\nmax_processes = 1000000\n", "`sandbox.max_processes`"),
        ('[policy]\ncustom_model = "yes"\n', "`policy.custom_model`"),
        ("[http\n", "not TOML"),
        ("http = 1\n", "`http`"),
        ('[http]\nlisten = "127.0.0.1:1"\nlisten = "127.0.0.1:2"\n', "not TOML"),
    ],
)
def test_a_setting_that_cannot_be_is_an_error(home: Path, text: str, words: str) -> None:
    write(home, text)
    with pytest.raises(ConfigError) as caught:
        read_settings(home)
    assert words in str(caught.value)
    assert "hearthgate.toml" in str(caught.value)


def test_every_mistake_is_told_at_once(home: Path) -> None:
    write(home, '[http]\nsocket = "x"\n[sandbox]\nmax_cells = 0\n[nothing]\n')
    with pytest.raises(ConfigError) as caught:
        read_settings(home)
    assert len(caught.value.problems) == 3


def test_settings_that_others_could_have_written_are_not_believed(home: Path) -> None:
    path = write(home, SETTINGS)
    path.chmod(0o666)
    with pytest.raises(ConfigError, match="written by everybody"):
        read_settings(home)
    path.chmod(0o644)
    home.chmod(0o777)
    with pytest.raises(ConfigError, match="written by everybody"):
        read_settings(home)
    path.unlink()
    with pytest.raises(ConfigError, match="written by everybody"):
        read_settings(home)


def test_settings_too_long_or_unreadable_are_an_error(home: Path) -> None:
    write(home, "#" * (2 << 20))
    with pytest.raises(ConfigError, match="larger"):
        read_settings(home)
    (home / "hearthgate.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not TOML"):
        read_settings(home)
    (home / "hearthgate.toml").unlink()
    (home / "hearthgate.toml").mkdir()
    with pytest.raises(ConfigError, match="cannot read"):
        read_settings(home)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("127.0.0.1:0", ("127.0.0.1", 0)),
        ("localhost:8642", ("127.0.0.1", 8642)),
        ("[::1]:8642", ("::1", 8642)),
        ("127.3.2.1:80", ("127.3.2.1", 80)),
    ],
)
def test_a_loopback_address_is_taken_apart(text: str, found: tuple[str, int]) -> None:
    assert parse_listen(text) == found


@pytest.mark.parametrize("said", ['tls_cert = "c.pem"\ntls_key = "k.pem"', "behind_proxy = true"])
def test_an_address_that_others_reach_is_taken_where_keys_do_not_cross_in_the_clear(tmp_path: Path, said: str) -> None:
    (tmp_path / "hearthgate.toml").write_text(f'[http]\nlisten = "0.0.0.0:8642"\n{said}\n')
    assert read_settings(tmp_path).http.listen == "0.0.0.0:8642"
