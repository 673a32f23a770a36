"""Did you mean: the known word that a mistyped one stands for."""

from collections.abc import Iterable

LETTERS = 2  # how many may differ in a word that is taken for a misspelt one


def nearest(word: str, known: Iterable[str], *, letters: int = LETTERS) -> str | None:
    """Give the known word at most `letters` edits away from `word`, the nearest one, None if there is none."""
    found = [(distance(word.casefold(), other.casefold(), letters), other) for other in known]
    best = min(found, default=None)
    return best[1] if best is not None and best[0] <= letters else None


def did_you_mean(word: str, known: Iterable[str], *, letters: int = LETTERS) -> str:
    """Give `: did you mean ...?` for an error's sentence, empty if nothing is near."""
    near = nearest(word, known, letters=letters)
    return f": did you mean `{near}`?" if near is not None else ""


def distance(one: str, other: str, most: int) -> int:
    """Count inserted, dropped, changed and swapped letters between two words; any number over `most` means more."""
    if abs(len(one) - len(other)) > most:
        return most + 1
    before: list[int] = []
    last = list(range(len(other) + 1))
    for i, left in enumerate(one, 1):
        row = [i]
        for j, right in enumerate(other, 1):
            cost = min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (left != right))
            if i > 1 and j > 1 and left == other[j - 2] and one[i - 2] == right:
                cost = min(cost, before[j - 2] + 1)
            row.append(cost)
        before, last = last, row
    return last[-1]
