"""The log comes in, files of events and of slates go out."""
