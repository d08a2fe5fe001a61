"""Which columns the model's answers rest on."""
