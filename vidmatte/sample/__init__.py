"""The sample clip with its exact alpha; samples/README.md of the repository describes it."""
