"""What the candidate is compared with: the production model and the best version so far, asked on one hold-out."""
