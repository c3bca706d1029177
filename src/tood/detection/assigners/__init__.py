"""Assigners: which object every location shall detect."""
