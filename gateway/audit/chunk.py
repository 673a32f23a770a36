"""An exported file in pieces of whole lines, each checked on its own, in this process or in workers beside it."""

import multiprocessing
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from typing import BinaryIO

from gateway.audit.line import MAX_LINE_BYTES, Line, LineError, parse_hashes
from gateway.audit.merkle import proves_inclusion
from gateway.errors import VerificationError

CHUNK_BYTES = 1024 * 1024
MAX_PROBLEMS = 20  # of one piece that are told; a file of nothing but line breaks must not fill the memory
Place = tuple[int, int]
Signed = tuple[int, bytes]  # the size and root that the lines of a filtered export must be in


@dataclass(slots=True)
class Checked:
    """What was found in some lines that follow each other; places count from 0.

    `seqs` and `leaves` have an entry for each line, None and empty for one that is not true to itself.
    """

    seqs: list[int | None] = field(default_factory=list)
    leaves: list[bytes] = field(default_factory=list)
    problems: dict[int, str] = field(default_factory=dict)
    checkpoints: list[int] = field(default_factory=list)  # places of lines that carry one
    bare: int = 0  # lines that lack a personal value

    def add(self, place: int, problem: str) -> None:
        """Note what is wrong with a line; beyond some, only the first ones are kept."""
        if len(self.problems) < MAX_PROBLEMS:
            self.problems[place] = problem


def read_chunks(file: BinaryIO) -> Iterator[bytes | None]:
    """Give whole lines without the last line break, some at a time; None for a line that is too long."""
    kept = b""
    while data := file.read(CHUNK_BYTES):
        whole, found, rest = data.rpartition(b"\n")
        if found:
            yield kept + whole
            kept = rest
            continue
        kept += rest
        if len(kept) > MAX_LINE_BYTES:
            _skip_line(file)
            kept = b""
            yield None
    if kept:
        yield kept


def find_chunks(file: BinaryIO) -> Iterator[Place | None]:
    """Give where the lines that `read_chunks` gives lie: the first byte, and how many."""
    begin = 0
    for text in read_chunks(file):
        if text is None:
            yield None
            begin = file.tell()
            continue
        yield begin, len(text)
        begin += len(text) + len(b"\n")


def _skip_line(file: BinaryIO) -> None:
    """Read up to the end of the line."""
    while data := file.read(CHUNK_BYTES):
        _, found, rest = data.partition(b"\n")
        if found:
            file.seek(-len(rest), os.SEEK_CUR)
            return


def check_chunk(text: bytes | None, signed: Signed | None) -> Checked:
    """Check lines; with `signed` each must have a proof that it is in that tree, without it none may have one."""
    checked = Checked()
    for place, line_text in enumerate([b""] if text is None else text.split(b"\n")):
        try:
            if text is None or len(line_text) > MAX_LINE_BYTES:
                raise LineError(f"is longer than {MAX_LINE_BYTES} bytes")  # noqa: TRY301 # told as what a line is
            line = Line(line_text)
        except LineError as error:
            checked.seqs.append(None)
            checked.leaves.append(b"")
            checked.add(place, f"{error}")
            continue
        checked.seqs.append(line.seq)
        checked.leaves.append(line.leaf)
        checked.bare += line.bare
        if line.checkpoint is not None:
            checked.checkpoints.append(place)
        if problem := _proof_problem(line, signed):
            checked.add(place, problem)
    return checked


def check_place(path: str, place: Place | None, signed: Signed | None) -> Checked:
    """Check the lines that lie at a place of a file, as `check_chunk` does."""
    if place is None:
        return check_chunk(None, signed)
    with open(path, "rb") as file:  # noqa: PTH123 (a path that may be a descriptor's)
        file.seek(place[0])
        return check_chunk(file.read(place[1]), signed)


def _proof_problem(line: Line, signed: Signed | None) -> str | None:
    if signed is None:
        return "has a proof, which a line of a whole export has not" if line.proof else None
    size, root = signed
    try:
        proof = parse_hashes(line.proof)
    except LineError as error:
        return f"{error}"
    if proves_inclusion(line.seq - 1, size, line.leaf, proof, root):
        return None
    return "is not in the log that the last line's checkpoint speaks of"


def check_file(file: BinaryIO, signed: Signed | None, jobs: int) -> Iterator[Checked]:
    """Check a file from its beginning, in `jobs` processes; the answer is the same for any number of them.

    Raises:
        VerificationError: a process died.

    """
    file.seek(0)
    if jobs <= 1:
        yield from (check_chunk(text, signed) for text in read_chunks(file))
        return
    context = multiprocessing.get_context("spawn")
    waiting: deque[Future[Checked]] = deque()
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        try:
            for place in find_chunks(file):
                # WHY: a worker reads its lines itself; handing them over costs more than finding them.
                waiting.append(pool.submit(check_place, file.name, place, signed))
                # INVARIANT: so many pieces are held at a time, however long the file is.
                if len(waiting) > jobs + 1:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool as error:
            raise VerificationError("a process that checked lines died", way_out="try again with --jobs 1") from error
        finally:
            pool.shutdown(cancel_futures=True)
