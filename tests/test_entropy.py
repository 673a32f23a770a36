"""Random bytes are given once, by one process."""

import os
from concurrent.futures import ThreadPoolExecutor

from hypothesis import given
from hypothesis import strategies as st

from gateway.entropy import random_bytes


@given(st.lists(st.integers(0, 10_000), max_size=20))
def test_as_many_bytes_are_given_as_were_asked_for(counts: list[int]) -> None:
    assert [len(random_bytes(count)) for count in counts] == counts


def test_no_bytes_are_given_twice_whichever_threads_ask() -> None:
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: random_bytes(16), range(20_000)))
    assert len(set(found)) == len(found)


def test_a_forked_process_gives_others_than_its_parent() -> None:
    random_bytes(1)
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.write(writing, random_bytes(32))
        os._exit(0)
    os.waitpid(child, 0)
    given_there = os.read(reading, 32)
    os.close(reading)
    os.close(writing)
    assert len(given_there) == 32
    assert given_there != random_bytes(32)
