"""See the contracts of this room in ``docs/architecture.md``."""
