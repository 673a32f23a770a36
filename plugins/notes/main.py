"""Notes: remembers short texts and finds them again by a word.

Every note is one value below `notes/` in the vault of the user who asks, named after its text, so
remembering the same text twice keeps it once. The diary belongs to the user, who must have consented.
"""

import hashlib


def on_activated(ctx):
    ctx.log("notes is ready")


def remember(ctx, text):
    name = "notes/" + hashlib.sha256(text.encode()).hexdigest()[:16]
    ctx.vault.write(name, {"text": text})
    return {"name": name}


async def recall(ctx, word):
    texts = [ctx.vault.read(name)["text"] for name in ctx.vault.list("notes")]
    return sorted(text for text in texts if word.casefold() in text.casefold())


def diary_summary(ctx):
    diary = ctx.vault.read("user_data/diary")
    entries = diary if isinstance(diary, list) else [diary]
    return {"entries": len(entries), "words": sum(len(str(entry).split()) for entry in entries)}
