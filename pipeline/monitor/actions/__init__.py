"""What follows from what the monitor found: issues and messages, a retraining, and the figures for Prometheus."""
