"""A person at MLflow's own pages: the alias is moved with the mouse, and production answers with that version."""
