"""The packaged suite: one module per family of requirements, named after it, and the probes."""
