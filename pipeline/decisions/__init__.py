"""How answers become decisions: the threshold of pipeline.toml [decision], and the rules of project/rules.py."""
