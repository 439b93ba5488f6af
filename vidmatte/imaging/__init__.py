"""Pure functions on pixels: colour, transfer curves, optical flow, morphology, foreground, despill."""
