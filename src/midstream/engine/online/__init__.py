"""Held slates come in, figures over windows and alarms of what drifts go out to metrics, health and HTTP."""
