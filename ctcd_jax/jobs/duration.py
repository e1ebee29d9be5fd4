"""How long something takes, in words."""


def duration(seconds: float) -> str:
    """Returns e.g. "42s", "3m10s" or "5h02m"."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 1:
        return f"{rest}s"
    return f"{minutes}m{rest:02d}s" if minutes < 60 else f"{minutes // 60}h{minutes % 60:02d}m"
