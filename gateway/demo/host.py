"""What this host can keep of the sandbox's promises."""

from gateway.demo.story import Story
from sandbox.probe import probe


def prove_host(story: Story) -> None:
    """Prove the sandbox's promises, and tell what this host gives in another way, or not at all."""
    guarantees = probe()
    missing = [one for one in guarantees if one.mandatory and not one.held]
    held = sum(one.held for one in guarantees)
    story.check(
        f"hearthgate doctor: {held} of {len(guarantees)} guarantees of the sandbox hold here, all that are needed",
        not missing,
        missing=[f"{one.name}: {one.detail}: {one.fix}" for one in missing],
    )
    for one in guarantees:
        if not one.held:
            story.show(f"{one.name}: {one.detail}")
