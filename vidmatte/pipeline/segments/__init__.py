"""Render long clips in segments, on one machine or many, and join them without loss."""
