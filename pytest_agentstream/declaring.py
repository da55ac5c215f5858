"""Settings in sentences."""
from pytest_agentstream.dialects.words import nearest as nearest
def explain(error, model, source):
    return [f"{source}: {e['loc']}: {e['msg']}" for e in error.errors()]
