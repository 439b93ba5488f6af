"""Timelines of editing programs: what they use of which media, and where the mattes go in them."""
