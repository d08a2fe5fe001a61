"""Why the model gave one answer: what each feature of the row added to it, off the hot path."""
