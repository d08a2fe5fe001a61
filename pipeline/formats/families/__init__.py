"""One file for each family of models that build() may return; pipeline/formats/family.py says what each must have."""
