"""Watches what production was asked and how it turned out, and judges it against what the model was trained on."""
