"""What people type to find words, made an expression that the full-text index understands."""

import re
from collections.abc import Iterator

from gateway.errors import MalformedError

MAX_TEXT = 200
MAX_TERMS = 16
MIN_BEGINNING = 2  # letters before a `*`
_TERM = re.compile(r'"([^"]*)"(\*?)|(\S+)')
_LETTER = re.compile(r"[^\W_]")


def match_expression(text: str) -> str:
    """Give the expression that finds records with every word, `"phrase"` and `beginning*` of `text`.

    Raises:
        MalformedError: it has no word, an open quote, or is too long.

    """
    # SECURITY: each term is a quoted string to FTS5, whatever it holds: no operator, column or syntax error comes in.
    if len(text) > MAX_TEXT:
        raise MalformedError(f"the text to look for has {len(text)} characters", way_out=f"at most {MAX_TEXT}")
    if text.count('"') % 2:
        raise MalformedError(f"`{text}`: a quote is not closed", way_out='write a phrase as "two words"')
    terms = list(_terms(text))
    if not terms:
        raise MalformedError(f"`{text}` has no word to look for", way_out='words, a "phrase", or a beginn*')
    if len(terms) > MAX_TERMS:
        raise MalformedError(f"{len(terms)} words to look for", way_out=f"at most {MAX_TERMS}")
    return " AND ".join(terms)


def phrase(text: str) -> str:
    """Give the expression that finds exactly the words of a text, one behind the other."""
    spelt = text.replace('"', '""').replace("\x00", " ")
    return f'"{spelt}"'


def _terms(text: str) -> Iterator[str]:
    for quoted, star, bare in _TERM.findall(text):
        word, beginning = (bare.rstrip("*"), bare.endswith("*")) if bare else (quoted, bool(star))
        if not _LETTER.search(word):
            continue
        if beginning and len(word) < MIN_BEGINNING:
            raise MalformedError(f"`{word}*` begins too many words", way_out=f"{MIN_BEGINNING} letters or more")
        yield phrase(word) + (" *" if beginning else "")
