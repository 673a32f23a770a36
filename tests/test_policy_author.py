"""Whoever is asked for the author of an edit runs nothing that a repository names."""

import subprocess
from pathlib import Path

import pytest

from gateway.policy.text import PolicyText
from gateway.policy_author import author_of

FILES = {"roles.csv": b"# nobody\n"}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Make a work tree whose one commit holds FILES."""
    folder = tmp_path / "policies"
    folder.mkdir()
    for name, data in FILES.items():
        (folder / name).write_bytes(data)
    git(folder, "init", "-q")
    git(folder, "config", "user.name", "Ada")
    git(folder, "config", "user.email", "ada@example.org")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "first")
    return folder


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(folder), *arguments], check=False, capture_output=True, text=True)
    return done.stdout.strip()


def test_a_clean_work_tree_names_the_author_of_its_commit(tree: Path) -> None:
    found = author_of(tree, PolicyText(FILES), [*FILES])
    assert found is not None
    assert (found.name, found.known_by) == ("Ada <ada@example.org>", "git")


def test_what_a_commit_lacks_is_not_fetched_by_a_program_that_the_repository_names(tree: Path, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    lost = git(tree, "rev-parse", "HEAD^{tree}")
    (tree / ".git" / "objects" / lost[:2] / lost[2:]).unlink()
    for name, value in (
        ("core.repositoryformatversion", "1"),
        ("extensions.partialClone", "origin"),
        ("remote.origin.promisor", "true"),
        ("remote.origin.url", f"ext::touch {ran}"),
        ("protocol.ext.allow", "always"),
    ):
        git(tree, "config", name, value)
    found = author_of(tree, PolicyText(FILES), [*FILES])
    assert found is not None
    assert found.known_by == "file owner"
    assert not ran.exists()
    git(tree, "ls-tree", "-r", "HEAD")
    assert ran.exists(), "git itself runs it"
