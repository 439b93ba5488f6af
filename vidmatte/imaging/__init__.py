"""Functions on pixels: YUV, profiles, transfer curves, flow, edges, foreground, despill."""
