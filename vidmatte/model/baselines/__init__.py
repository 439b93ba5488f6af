"""Baselines behind the common interface, with the weights of the networks' authors."""
