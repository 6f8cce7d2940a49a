"""Tags of exported Feast views and fields: which feature a field is a column of, and whether values may be pushed."""

from typing import Final

VIEW_TAG: Final = "midstream"
"""Of a view that a midstream shop answers: ``SETTABLE`` or ``COMPUTED``."""
SETTABLE: Final = "settable"
"""Its values are attributes of items or fields of profiles: a push is an event."""
COMPUTED: Final = "computed"
"""Its values are made of events, and cannot be pushed."""
FEATURE_TAG: Final = "midstream_feature"
"""Of a field: the name of the feature that it is a column of."""
FORM_TAG: Final = "midstream_form"
"""Of a field whose values may be pushed and are truths: ``BOOLEAN``."""
BOOLEAN: Final = "boolean"
NO_ITEM: Final = "midstream:no-item"
"""Asked about where a row has no item: columns of users and sessions are there beside an item that nobody named."""
