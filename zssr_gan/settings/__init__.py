"""Settings as frozen pydantic models, one YAML file a run or preset. They know no torch."""
