"""Giving grants: who is cancelled while the file is written leaves no write behind."""

import asyncio
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.flows import grants


def test_who_is_cancelled_in_the_midst_of_the_write_goes_on_behind_it(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, released = threading.Event(), threading.Event()
    written: list[bytes] = []

    def write(_folder: object, *, expected: bytes, new: bytes) -> None:
        begun.set()
        assert released.wait(20)
        written.append(expected + new)

    monkeypatch.setattr(grants, "write_grants", write)
    parts: Any = SimpleNamespace(policies=None)
    prepared: Any = SimpleNamespace(before=b"a", after=b"b")

    async def story() -> None:
        giving = asyncio.ensure_future(grants._write(parts, prepared))
        assert await asyncio.to_thread(begun.wait, 20)
        giving.cancel()
        await asyncio.sleep(0)
        giving.cancel()
        await asyncio.sleep(0)
        assert not giving.done()
        released.set()
        with pytest.raises(asyncio.CancelledError):
            await giving
        assert written == [b"ab"]

    asyncio.run(story())
