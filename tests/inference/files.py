"""What the tests of files share."""


def timeless(value: object) -> object:
    """A record's JSON without times and durations."""
    if isinstance(value, dict):
        return {key: timeless(item) for key, item in value.items() if key not in ("times", "seconds")}
    return [timeless(item) for item in value] if isinstance(value, list) else value
