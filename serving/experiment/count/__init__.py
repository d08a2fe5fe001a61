"""Sums of an experiment, by day and variant, counted where the prediction log is."""
