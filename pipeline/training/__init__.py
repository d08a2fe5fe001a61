"""What `make train` leaves: the model to serve, the content of its bundle, and its run in MLflow."""
