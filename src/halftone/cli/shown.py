"""How the commands show shares to people."""


def share(value: float) -> str:
    """Write a share in per cent, however small."""
    return "-" if value == 0 else f"{value:.1%}" if value >= 0.0005 else "<0.1%"


def percent(value: float | None) -> str:
    """Write an accuracy or another metric in per cent; "-" where it is undefined."""
    return "-" if value is None else f"{100 * value:.2f} %"
