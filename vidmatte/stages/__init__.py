"""What happens to mattes between the model and the outputs: propagate, smooth, finish, colour."""
