"""The search over the stability-plasticity trade-off."""
