"""The edge: a folder in which a model answers without the service and without a network, in Python, in Node and in a page."""
