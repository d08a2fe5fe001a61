"""Experiments: how to judge two models that run at once, and how many subjects that takes."""
