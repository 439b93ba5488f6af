"""From the model to the outputs: propagate, smooth and finish mattes, and estimate colour."""
