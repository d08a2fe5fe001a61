"""An experiment, for people: the page with its picture, a few lines for a terminal, and its run in MLflow."""
