"""The HTTP door: routes, bodies, problems and identity."""
