"""Which packages a project needs: the groups of pyproject.toml, their locked files, and what `make add` adds to them."""
