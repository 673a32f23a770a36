"""What this host can keep, and what the demo's home has to do without."""

from pathlib import Path

from gateway.demo.story import Story
from sandbox.probe import probe


def prove_host(story: Story, home: Path) -> None:
    """Prove the sandbox's promises; accept in the home's settings what this host cannot give and cells do without.

    WHY: only root, or who was given a control group, can count a call's memory and processor time as a whole.
    """
    guarantees = probe()
    missing = [one for one in guarantees if one.mandatory and not one.held]
    held = sum(one.held for one in guarantees)
    story.check(
        f"hearthgate doctor: {held} of {len(guarantees)} guarantees of the sandbox hold here, all that are needed",
        not missing,
        missing=[f"{one.name}: {one.detail}: {one.fix}" for one in missing],
    )
    spared = [one for one in guarantees if not one.held]
    if not spared:
        return
    for one in spared:
        story.show(f"{one.name}: {one.detail}")
    story.tell("The demo's settings accept that these are missing; without that word no call would run.")
    settings = home / "hearthgate.toml"
    accepted = ", ".join(f'"{one.name}"' for one in spared)
    text = settings.read_text("utf-8")
    settings.write_text(text.replace("[sandbox]", f"[sandbox]\naccept_missing = [{accepted}]\n#", 1), "utf-8")
