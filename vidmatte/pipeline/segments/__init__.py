"""SEGMENTS: long clips in pieces that are rendered one by one, by one machine or many, and joined without loss."""
