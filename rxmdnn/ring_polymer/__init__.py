"""Path integrals: atoms as ring polymers of beads."""
