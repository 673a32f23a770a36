"""A story is only as good as its claims."""

import io

import pytest
from rich.console import Console

from gateway.demo.story import ClaimFailedError, Story


def told(story: Story) -> str:
    assert isinstance(story.console.file, io.StringIO)
    return story.console.file.getvalue()


@pytest.fixture
def story() -> Story:
    return Story(Console(file=io.StringIO(), width=100, highlight=False))


def test_a_claim_that_holds_is_told_and_kept_as_a_fact(story: Story) -> None:
    story.chapter("Once")
    story.check("the sun rose", True, at="06:12")  # noqa: FBT003 (it held)
    assert story.facts == [{"chapter": "Once", "claim": "the sun rose", "held": True, "at": "06:12"}]
    assert "1. Once" in told(story)
    assert "✓ the sun rose" in told(story)


def test_a_claim_that_does_not_hold_ends_the_story_with_what_was_found(story: Story) -> None:
    with pytest.raises(ClaimFailedError, match="the sun rose"):
        story.check("the sun rose", False, sky="dark")  # noqa: FBT003 (it did not)
    assert "✗ the sun rose" in told(story)
    assert '"sky": "dark"' in told(story)
    assert story.facts[0]["held"] is False


def test_away_from_a_terminal_nothing_is_coloured_or_boxed(story: Story) -> None:
    story.chapter("Once")
    story.table(["who", "what"], [["a [bold]plugin[/bold]", "asks"]])
    story.end("over", well=True)
    assert "\x1b" not in told(story)
    assert "─" not in told(story)
    assert "a [bold]plugin[/bold]" in told(story)


def test_what_a_plugin_says_cannot_steer_the_terminal(story: Story) -> None:
    story.tell("\x1b]0;owned\x07")
    story.show("\x9b2J")
    story.table(["head"], [["\u202ecell\x1b[31m"]])
    assert not {"\x1b", "\x9b", "\x07", "\u202e"} & set(told(story))
