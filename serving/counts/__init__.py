"""Daily counts of the prediction log: how many rows fell where, per day and version, and how their outcomes turned out."""
