"""The whole flow: a request is opened, matted and written; long clips segment by segment."""
