"""Procedural and composited clips to train on."""
