"""The story from beginning to end; whatever was started is stopped, however it ends."""

import json
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

from rich.console import Console

from gateway.app import init_home
from gateway.client import Client
from gateway.demo.chapters import (
    allowed_call,
    broken_file,
    edited_rule,
    owner_approves,
    plugins_apply,
    refused_call,
)
from gateway.demo.host import prove_host
from gateway.demo.process import serving
from gateway.demo.proof import hostile_plugin, proven_log
from gateway.demo.scene import ALICE, Scene
from gateway.demo.story import ClaimFailedError, Story
from gateway.demo.upstream import weather_service
from gateway.errors import HearthgateError

CHAPTERS = (
    plugins_apply,
    owner_approves,
    allowed_call,
    refused_call,
    edited_rule,
    broken_file,
    hostile_plugin,
    proven_log,
)
_PLAIN_WIDTH = 110
_TERMINATED = 128 + signal.SIGTERM


def run_demo(*, as_json: bool) -> int:
    """Tell the story; give 0 if every claim held, else 1. As JSON the facts are on stdout, the story on stderr."""
    stream = sys.stderr if as_json else sys.stdout
    width = None if stream.isatty() else _PLAIN_WIDTH
    story = Story(Console(file=stream, highlight=False, width=width))
    begun = time.monotonic()
    why = None
    try:
        with _terminated_in_order(), _scene(story) as scene:
            for chapter in CHAPTERS:
                chapter(scene)
    except ClaimFailedError as error:
        why = f"this did not go as told: {error}"
    except HearthgateError as error:
        why = str(error)
    seconds = round(time.monotonic() - begun, 1)
    story.end(
        f"Told in {seconds} s; the gateway is stopped and the home is gone." if why is None else why, well=why is None
    )
    if as_json:
        sys.stdout.write(json.dumps({"ok": why is None, "why": why, "seconds": seconds, "facts": story.facts}) + "\n")
    return 0 if why is None else 1


@contextmanager
def _scene(story: Story) -> Iterator[Scene]:
    with ExitStack() as open_things:
        folder = Path(open_things.enter_context(tempfile.TemporaryDirectory(prefix="hearthgate-demo-")))
        home = folder / "home"
        story.chapter("A house")
        made = init_home(home, plugins=True)
        (home / "policies" / "rules" / "70-demo.csv").write_text(
            f"p, alice-runs, user:{ALICE}, gateway, execute, plugins/*, -, allow, alice may run plugins\n", "utf-8"
        )
        story.tell(f"hearthgate init made {len(made)} files below {home}")
        prove_host(story)
        service = open_things.enter_context(weather_service())
        begun = time.monotonic()
        url = open_things.enter_context(serving(home, folder / "gateway.log"))
        story.tell(f"hearthgate serve answers at {url} and on run/hearthgate.sock")
        owner = open_things.enter_context(Client(home))
        scene = Scene(story=story, folder=folder, home=home, url=url, owner=owner, service=service)
        policy = scene.policy()
        story.check(
            f"up in {time.monotonic() - begun:.1f} s, policy in force: generation {policy['generation']}",
            not policy["problems"],
            policy=policy,
        )
        yield scene


@contextmanager
def _terminated_in_order() -> Iterator[None]:
    """Let SIGTERM end the story as Ctrl-C does, so that nothing it started stays behind."""

    def leave(_signal: int, _frame: FrameType | None) -> NoReturn:
        sys.exit(_TERMINATED)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
