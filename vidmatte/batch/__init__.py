"""BATCH: many shots, long shots, many workers: manifest -> plan -> engine -> results and a page."""
