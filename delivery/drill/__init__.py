"""The closed loop in minutes: traffic that changes on purpose, in a copy of the project, until a new model has learnt the change."""
