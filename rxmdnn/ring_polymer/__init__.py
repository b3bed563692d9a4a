"""Path integrals: atoms as rings of beads."""
