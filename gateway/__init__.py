"""Hearthgate: a policy-engine-centric security gateway for plugins."""
