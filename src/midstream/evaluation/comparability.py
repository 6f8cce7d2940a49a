"""Comparability of figures: the choices of protocol that decide it, in words that every report prints."""


def stated(*, last_item_allowed: bool, validation_learned: bool | None) -> str:
    """Return whether the last item may be recommended, and whether the validation part is learned before the test.

    Args:
        last_item_allowed: An item may be recommended right after it was acted on.
        validation_learned: None = nothing was chosen on any part of these data.

    Example:
        >>> stated(last_item_allowed=True, validation_learned=False)
        'the last item may be recommended; the validation part is not learned'
    """
    allowed = "may be recommended" if last_item_allowed else "is never recommended"
    if validation_learned is None:
        return f"the last item {allowed}; nothing was chosen on these data, so there is no validation part"
    return f"the last item {allowed}; the validation part {'is' if validation_learned else 'is not'} learned"
