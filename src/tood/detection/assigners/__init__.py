"""Assigners (label assignment): which object every location of the pyramid is trained to detect."""
