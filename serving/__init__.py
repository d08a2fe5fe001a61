"""The prediction service: one bundle in, HTTP out. Imports nothing of the pipeline that made it."""
