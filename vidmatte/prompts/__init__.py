"""Points, strokes, boxes and masks of a person, and the references made from them."""
