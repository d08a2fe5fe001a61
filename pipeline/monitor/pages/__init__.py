"""What the monitor found, for people: the report with its pictures, a run in MLflow, and Evidently's report beside them."""
