"""A small assembler for the filters that the kernel runs before each system call."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

_LOAD, _JUMP, _JUMP_EQUAL, _JUMP_AT_LEAST, _AND, _RETURN = 0x20, 0x05, 0x15, 0x35, 0x54, 0x06
_MAX_INSTRUCTIONS = 4096

NUMBER_AT, ARCHITECTURE_AT = 0, 4

ALLOW = 0x7FFF_0000
NOTIFY = 0x7FC0_0000  # ask whoever listens; refused where nobody does
TRACE = 0x7FF0_0000  # ask whoever traces; refused where nobody does, and in a cell nobody can
KILL_PROCESS = 0x8000_0000


def refuse(errno: int) -> int:
    """Give the answer that makes a system call fail with an error number."""
    return 0x0005_0000 | errno


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction; jumps count the instructions to leap over."""

    code: int
    value: int
    if_true: int = 0
    if_false: int = 0

    def pack(self) -> bytes:
        """Give the kernel's form."""
        return struct.pack("=HBBI", self.code, self.if_true, self.if_false, self.value)


Block = tuple[Instruction, ...]


def load(offset: int) -> Instruction:
    """Load a word of the call's description."""
    return Instruction(_LOAD, offset)


def mask(bits: int) -> Instruction:
    """Keep only some bits of what was loaded."""
    return Instruction(_AND, bits)


def answer(action: int) -> Instruction:
    """End with an answer."""
    return Instruction(_RETURN, action)


def low_word_of(argument: int) -> int:
    """Tell where the lower half of an argument lies (both tables are of little-endian machines)."""
    return 16 + 8 * argument


def high_word_of(argument: int) -> int:
    """Tell where the upper half of an argument lies."""
    return low_word_of(argument) + 4


def when_equal(value: int, then: Block) -> Block:
    """Run `then`, which must end with an answer, when the loaded word is `value`."""
    return (Instruction(_JUMP_EQUAL, value, 0, len(then)), *then)


def unless_equal(value: int, then: Block) -> Block:
    """Run `then`, which must end with an answer, when the loaded word is not `value`."""
    return (Instruction(_JUMP_EQUAL, value, len(then), 0), *then)


def when_at_least(value: int, then: Block) -> Block:
    """Run `then`, which must end with an answer, when the loaded word is `value` or more."""
    return (Instruction(_JUMP_AT_LEAST, value, 0, len(then)), *then)


def choose(starts: Sequence[tuple[int, Block]]) -> Block:
    """Run the block of the last start that is not above the loaded word; each must end with an answer.

    By halves, for the kernel goes through the whole program for each call it knows when it takes a filter.
    """
    if len(starts) == 1:
        return starts[0][1]
    middle = len(starts) // 2
    lower = choose(starts[:middle])
    at_least = Instruction(_JUMP_AT_LEAST, starts[middle][0], 0, 1)
    return (at_least, Instruction(_JUMP, len(lower)), *lower, *choose(starts[middle:]))


def assemble(program: Block) -> bytes:
    """Give the kernel's form of a whole program."""
    if len(program) > _MAX_INSTRUCTIONS:
        raise ValueError(f"{len(program)} instructions: {_MAX_INSTRUCTIONS} at most")
    return b"".join(each.pack() for each in program)
