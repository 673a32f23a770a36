"""How well plugins run: figures of real calls, tiers with stated edges, advice."""
