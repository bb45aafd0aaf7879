"""One Lightning module, its schedule and callbacks, and the run folder."""
