"""Shelf: counts the words of the texts in a folder of yours, and keeps a list of them there if it may write.

The manifest names `/srv/shelf`; what the plugin sees of it is what you grant. With `file_read` on it the folder is
there, read-only; with `file_write` what `catalogue` writes is kept when the call returns; with neither it is not there.
"""

from pathlib import Path

FOLDER = Path("/srv/shelf")


def count(ctx):
    texts = sorted(FOLDER.rglob("*.txt"))
    ctx.log(f"{len(texts)} texts")
    return {str(text.relative_to(FOLDER)): len(text.read_text(errors="replace").split()) for text in texts}


def catalogue(ctx):
    counted = count(ctx)
    with (FOLDER / "catalogue.md").open("w") as file:
        file.writelines(f"- {name}: {words} words\n" for name, words in counted.items())
    return len(counted)
