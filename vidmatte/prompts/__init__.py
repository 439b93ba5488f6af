"""Points, strokes, boxes and masks that a person marks, and the references that they make."""
